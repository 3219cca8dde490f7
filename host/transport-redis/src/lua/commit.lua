-- Commits outcomes: applies the effects of events of some partitions together with the progress of these partitions.
-- keys: owner (hash partition -> lease); io (hash name -> incarnation); done (hash partition -> progress: events committed, number up
--       to which all are, their bytes, and distances between those committed beyond it); dead (stream); who (hash client -> io-node);
--       lost (set of members); over (hash refused client -> partition); kept (hash 'partition:number' -> event that is set aside); begun
--       (hash 'partition:number' -> lease epochs, see mark_started.lua); sizes (see sizes.lua; its name gives that of the timers'
--       keys); then the buckets, patches, and streams of writes for other shards that `writes` refers to
-- arguments: sections, each as: name; number of items; number of values in an item; the values. A missing section is empty.
--            settings: key prefixes of outboxes, of their bytes added and of their bytes read; maximum entries of an outbox;
--                      maximum bytes; key prefix of live sets (empty when no client is refused)
--            parts:    partition; its lease; progress before; progress after
--            entries:  io-node, or '*' for all; field; value; for outboxes
--            letters:  dead letter; app; client
--            writes:   index of the key in KEYS; 's' set, 'd' delete, or 'x' for another shard; field; value
--            kept:     field of `kept`; event; for open events to set aside
--            unkept:   field of `kept`; for committed events
--            unbegun:  field of `begun`; for committed events
--            ends:     'd' disconnected or 'r' refused; client; partition; for sessions that end
-- answers: {'done'} when the whole call took effect. Nothing did with any other answer: {'parts', a verdict for each part}: 'apply' it
--          may take effect, 'done' it has taken effect before, 'lost' another node holds the partition or its progress differs; or
--          {'full', member, ...} for io-nodes with full outboxes
-- invariant: an event takes effect once, because the progress of its partition changes with it. A call takes effect as a whole: no
--            command fails after the first write, because every key was read before. All outboxes have the same order. A refused
--            client gets no disconnect event: it leaves the live set, or stays in `over` until its logged disconnect is passed over.
-- late copy: harmless. The progress of a partition never returns to an earlier value, so a copy finds 'done' or 'lost' for each part,
--            and a call with such a part writes nothing.
-- cost: three calls for each io-node, and one to four for each item.
local owner, io, done, dead, who, lost, over, kept, begun, sizes = unpack(KEYS, 1, 10)
local names_of_timers = string.sub(sizes, 1, -6) .. 'timers:names'
local sections, next_section = {}, 1
while next_section <= #ARGV do
  local first, width = next_section + 3, tonumber(ARGV[next_section + 2])
  next_section = first + tonumber(ARGV[next_section + 1]) * width
  sections[ARGV[first - 3]] = {first, next_section - width, width}
end
-- Iterates over the indices of a section's items.
local function each(name)
  local first, last, width = unpack(sections[name] or {1, 0, 1})
  local at = first - width
  return function()
    at = at + width
    if at <= last then return at end
  end
end
local settings = sections.settings[1]
local out, out_in, out_read, most_out, most_bytes, live = unpack(ARGV, settings, settings + 5)
most_out, most_bytes = tonumber(most_out), tonumber(most_bytes)

-- Checks. They also read every key that is written below.
local fields, changed = {}, {}
for at in each('parts') do
  table.insert(fields, ARGV[at])
  table.insert(changed, ARGV[at])
  table.insert(changed, ARGV[at + 3])
end
local leases, stands = redis.call('HMGET', owner, unpack(fields)), redis.call('HMGET', done, unpack(fields))
local verdicts, is_to_apply = {'parts'}, true
for at in each('parts') do
  local part = #verdicts
  local verdict = 'lost'
  if leases[part] == ARGV[at + 1] then
    -- Compares `before` first: a part without a change is not a copy of itself.
    if (stands[part] or '0 0 0') == ARGV[at + 2] then
      verdict = 'apply'
    elseif stands[part] == ARGV[at + 3] then
      verdict = 'done'
    end
  end
  is_to_apply = is_to_apply and verdict == 'apply'
  table.insert(verdicts, verdict)
end
if not is_to_apply then return verdicts end
for i = 11, #KEYS do redis.call('EXISTS', KEYS[i]) end
if #KEYS > 10 then redis.call('HLEN', sizes) end
redis.call('XLEN', dead)
redis.call('HLEN', kept)
if sections.unbegun then redis.call('HLEN', begun) end
local nodes, outbox, waiting, counters, full = redis.call('HGETALL', io), {}, {}, {}, {'full'}
for i = 1, #nodes, 2 do
  counters[i] = out_in .. nodes[i + 1] .. '@' .. nodes[i]
  counters[i + 1] = out_read .. nodes[i + 1] .. '@' .. nodes[i]
end
local bytes = #nodes > 0 and redis.call('MGET', unpack(counters)) or {}
for i = 1, #nodes, 2 do
  local node, member = nodes[i], nodes[i + 1] .. '@' .. nodes[i]
  outbox[node] = out .. member
  waiting[node] = {}
  local unread = (bytes[i] or 0) - (bytes[i + 1] or 0)
  if unread >= most_bytes or redis.call('XLEN', outbox[node]) >= most_out then table.insert(full, member) end
end
if #full > 1 then return full end
-- Live sets that may contain a refused client, by the name of its io-node.
local lives = {}
if live ~= '' then
  redis.call('HLEN', who)
  redis.call('HLEN', over)
  local members = redis.call('SMEMBERS', lost)
  for i = 1, #nodes, 2 do table.insert(members, nodes[i + 1] .. '@' .. nodes[i]) end
  for _, member in ipairs(members) do
    local node = string.match(member, '@(.*)$')
    lives[node] = lives[node] or {}
    table.insert(lives[node], live .. member)
    redis.call('HLEN', live .. member)
  end
end

-- Writes.
redis.call('HSET', done, unpack(changed))
for at in each('entries') do
  local node, field, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if waiting[node] then
    table.insert(waiting[node], field)
    table.insert(waiting[node], value)
  elseif node == '*' then
    for _, entries in pairs(waiting) do
      table.insert(entries, field)
      table.insert(entries, value)
    end
  end
end
for i = 1, #nodes, 2 do
  local entries, added = waiting[nodes[i]], 0
  for first = 1, #entries, 1000 do
    redis.call('XADD', outbox[nodes[i]], '*', unpack(entries, first, math.min(first + 999, #entries)))
  end
  for place = 2, #entries, 2 do added = added + #entries[place] end
  if added > 0 then redis.call('INCRBY', counters[i], added) end
end
for at in each('letters') do
  redis.call('XADD', dead, '*', 'd', ARGV[at], 'a', ARGV[at + 1], 'c', ARGV[at + 2])
end
for at in each('writes') do
  local key, how, field, value = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if how == 'x' then
    redis.call('XADD', key, '*', 'w', value)
  else
    take_write(key, how, field, value)
  end
end
-- Deletes the timers of clients that are gone.
if sections.ends and redis.call('EXISTS', names_of_timers) == 1 then
  for at in each('ends') do
    local owner = ARGV[at + 2] .. ' c ' .. ARGV[at + 1]
    for _, name in ipairs(redis.call('ZRANGEBYLEX', names_of_timers, '[' .. owner .. ' ', '(' .. owner .. '!')) do
      local key, bucket = string.match(name, '^(.*)%z(%Z*)$')
      delete(bucket, key)
    end
  end
end
do_writes(sizes)
for at in each('kept') do redis.call('HSET', kept, ARGV[at], ARGV[at + 1]) end
for at in each('unkept') do redis.call('HDEL', kept, ARGV[at]) end
for at in each('unbegun') do redis.call('HDEL', begun, ARGV[at]) end
for at in each('ends') do
  local how, client, partition = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local node = how == 'r' and redis.call('HGET', who, client)
  if node then
    redis.call('HDEL', who, client)
    for _, key in ipairs(lives[node] or {}) do redis.call('HDEL', key, client) end
  elseif how == 'r' then
    redis.call('HSET', over, client, partition)
  else
    redis.call('HDEL', over, client)
  end
end
return {'done'}
