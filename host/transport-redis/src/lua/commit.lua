-- Commits outcomes: applies the effects of events of some partitions together with the progress of these partitions.
-- keys: owner (hash partition -> lease); io (hash name -> incarnation); done (hash partition -> progress: events committed, number up
--       to which all are, their bytes, and distances between those committed beyond it); dead (stream); who (hash client -> io-node);
--       lost (set of members); over (hash refused client -> partition); kept (hash 'partition:number' -> event that is set aside); begun
--       (hash 'partition:number' -> lease epochs, see mark_started.lua); sizes (see sizes.lua; its name gives that of the timers'
--       keys); out-all (stream), out-all-in (string) and out-all-read (zset), see shared/outbox.lua; then the buckets, patches, and
--       streams of writes for other shards that `writes` refers to
-- arguments: sections, each as: name; number of items; number of values in an item; the values. A missing section is empty.
--            settings: key prefixes of outboxes, of their bytes added and of their bytes read; maximum entries of an outbox;
--                      maximum bytes; key prefix of live sets (empty when no client is refused)
--            parts:    partition; its lease; progress before; progress after
--            entries:  io-node, or '*' for all; 'c' or 's'; value; for outboxes
--            letters:  dead letter; app; client
--            writes:   index of the key in KEYS; 's' set, 'd' delete, or 'x' for another shard; field; value
--            kept:     field of `kept`; event; for open events to set aside
--            unkept:   field of `kept`; for committed events
--            unbegun:  field of `begun`; for committed events
--            ends:     'd' disconnected or 'r' refused; client; partition; for sessions that end
-- answers: {'done'} when the whole call took effect. With any other answer no outcome took effect: {'parts', a verdict for each part}:
--          'apply' it may take effect, 'done' it has taken effect before, 'lost' another node holds the partition or its progress differs; or
--          {'full', member, ...} for io-nodes with full outboxes
-- invariant: an event takes effect once, because the progress of its partition changes with it. A call takes effect as a whole: no
--            command fails after the first write, because every key was read before. All outboxes have the same order. A refused
--            client gets no disconnect event: it leaves the live set, or stays in `over` until its logged disconnect is passed over.
-- late copy: harmless. The progress of a partition never returns to an earlier value, so a copy finds 'done' or 'lost' for each part,
--            and a call with such a part writes nothing.
-- cost: at most fifteen calls; six for each io-node that it has entries of its own for; and one to four for each other item. All
--       broadcasts together cost six, for any number of io-nodes, and two for each io-node that is gone.
local owner, io, done, dead, who, lost, over, kept, begun, sizes, all, all_in, readers = unpack(KEYS, 1, 13)
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
for i = 14, #KEYS do redis.call('EXISTS', KEYS[i]) end
if #KEYS > 13 then redis.call('HLEN', sizes) end
redis.call('XLEN', dead)
redis.call('HLEN', kept)
if sections.unbegun then redis.call('HLEN', begun) end
-- Outboxes of the io-nodes that are to get entries of their own, by name, and whether there are broadcasts.
local outboxes, full, has_broadcasts = {}, {'full'}, false
for at in each('entries') do
  local node = ARGV[at]
  if node == '*' then
    has_broadcasts = true
  elseif outboxes[node] == nil then
    local incarnation = redis.call('HGET', io, node)
    outboxes[node] = false
    if incarnation then
      local member = incarnation .. '@' .. node
      outboxes[node] = {key = out .. member, bytes_in = out_in .. member, runs = {}}
      local bytes = redis.call('MGET', out_in .. member, out_read .. member)
      local unread = (bytes[1] or 0) - (bytes[2] or 0)
      if unread >= most_bytes or redis.call('XLEN', out .. member) >= most_out then table.insert(full, member) end
    end
  end
end
local all_before = sections.entries and tonumber(redis.call('GET', all_in) or 0)
if has_broadcasts then
  local slowest, read = slowest_reader(readers, io)
  local entries = redis.call('XLEN', all)
  if not slowest then
    has_broadcasts = false
  elseif read >= all_before then
    -- Nobody needs what is there.
    if entries >= most_out then redis.call('XTRIM', all, 'MAXLEN', 0) end
  elseif all_before - read >= most_bytes or entries >= most_out then
    table.insert(full, slowest)
  end
end
if #full > 1 then return full end
-- Live sets that may contain a refused client, by the name of its io-node.
local lives = {}
if live ~= '' then
  redis.call('HLEN', who)
  redis.call('HLEN', over)
  local lost_members = redis.call('SMEMBERS', lost)
  for at in each('ends') do
    local node = ARGV[at] == 'r' and redis.call('HGET', who, ARGV[at + 1])
    if node and not lives[node] then
      local incarnation = redis.call('HGET', io, node)
      lives[node] = incarnation and {live .. incarnation .. '@' .. node} or {}
      for _, member in ipairs(lost_members) do
        if string.match(member, '@(.*)$') == node then table.insert(lives[node], live .. member) end
      end
      for _, key in ipairs(lives[node]) do redis.call('HLEN', key) end
    end
  end
end

-- Writes.
redis.call('HSET', done, unpack(changed))
local broadcasts, run, all_after = {}, 0, all_before
for at in each('entries') do
  local node, field, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if field == 'c' then
    field = field .. run
    run = run + 1
  end
  local outbox = node ~= '*' and outboxes[node]
  local runs = outbox and outbox.runs or node == '*' and has_broadcasts and broadcasts
  if runs then
    table.insert(runs, field)
    table.insert(runs, value)
  end
  if node == '*' and has_broadcasts then all_after = all_after + #value end
end
local order = all_before and string.format('%.0f', all_before)
if has_broadcasts then order = string.format('%s %.0f', order, all_after) end
for _, outbox in pairs(outboxes) do
  if outbox then
    local runs, added = outbox.runs, 0
    for first = 1, #runs, 1000 do
      redis.call('XADD', outbox.key, '*', 'a', order, unpack(runs, first, math.min(first + 999, #runs)))
    end
    for place = 2, #runs, 2 do added = added + #runs[place] end
    redis.call('INCRBY', outbox.bytes_in, added)
  end
end
for first = 1, #broadcasts, 1000 do
  local last = math.min(first + 999, #broadcasts)
  for place = first + 1, last, 2 do all_before = all_before + #broadcasts[place] end
  redis.call('XADD', all, '*', 'b', string.format('%.0f', all_before), unpack(broadcasts, first, last))
end
if has_broadcasts then redis.call('SET', all_in, string.format('%.0f', all_before)) end
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
delete_fields(kept, ARGV, unpack(sections.unkept or {1, 0}))
delete_fields(begun, ARGV, unpack(sections.unbegun or {1, 0}))
local gone = {}
for at in each('ends') do
  local how, client, partition = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local node = how == 'r' and redis.call('HGET', who, client)
  if node then
    redis.call('HDEL', who, client)
    for _, key in ipairs(lives[node] or {}) do redis.call('HDEL', key, client) end
  elseif how == 'r' then
    redis.call('HSET', over, client, partition)
  else
    table.insert(gone, client)
  end
end
delete_fields(over, gone, 1, #gone)
return {'done'}
