-- Makes outcomes take effect: what events of some partitions did, together with the note that they are done.
-- keys: owner (hash partition -> lease), io (hash name -> incarnation), done (hash partition -> events committed so far,
--       number up to which all are, their bytes, and how far behind each other those done beyond it are), dead (stream), who (hash
--       client -> io-node), lost (set of members), over (hash client -> partition), kept (hash 'partition:number' -> event),
--       begun (hash 'partition:number' -> epochs, see begin.lua), sizes (see sizes.lua, by whose name that of the timers is known), then the buckets and the streams of writes for other shards that
--       `writes` names by their places
-- arguments: sections, each as: its name, number of its items, number of values in an item, the values. One that is left
--            out has no items. They are:
--            settings: what keys begin with of outboxes, of the bytes put into them and of the bytes read of them; most
--                      entries in an outbox, most bytes; what keys of live sets begin with (empty when nobody is refused)
--            parts:    number of a partition, the lease it is held by, what stands for it in `done` before this, and after
--            entries:  io-node or '*' for all, field, value; for outboxes
--            letters:  dead letter, app, client
--            writes:   which key, 's' set 'd' delete 'x' for another shard, key, value
--            kept:     field of `kept`, event; for open events that leave the log
--            unkept:   field of `kept`; for those that are committed
--            unbegun:  field of `begun`; for those that are committed
--            ends:     'd' by its last event or 'r' refused, client, partition; for clients that are gone
-- answers: {'done'} when all of it took effect. Else nothing did, and the answer is
--          {'parts', a verdict for each part: 'apply' when it may take effect, 'done' when it has before, 'lost' when
--          the partition is held by another or stands elsewhere}, or {'full', member, ...} for io-nodes whose outboxes have no room
-- invariant: an event takes effect once: what stands in `done` says whether it has, for each partition by itself. All of
--            a call does or nothing: no command fails after the first write, for every key was looked at before. All
--            outboxes have one order. A refused client has no disconnect: it leaves the live set, or stands in `over`
--            until the one in the log was passed.
-- late copy: harmless. What stands for a partition in `done` never comes back once it has changed, so a copy of a call that
--            took effect finds 'done' or 'lost' in each part, and a call with a part that is not 'apply' writes nothing.
local owner, io, done, dead, who, lost, over, kept, begun, sizes = unpack(KEYS, 1, 10)
local names_of_timers = string.sub(sizes, 1, -6) .. 'timers:names'
local sections, next_section = {}, 1
while next_section <= #ARGV do
  local first, width = next_section + 3, tonumber(ARGV[next_section + 2])
  next_section = first + tonumber(ARGV[next_section + 1]) * width
  sections[ARGV[first - 3]] = {first, next_section - width, width}
end
-- Goes over the places of a section's items.
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

-- Look.
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
    -- First what was before: a part that changes nothing is no copy of itself.
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
-- The live sets that a refused client can be in, by the name of its io-node.
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

-- Write.
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
-- A client that is gone takes its timers along.
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
