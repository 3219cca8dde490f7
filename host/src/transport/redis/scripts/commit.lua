#!lua flags=allow-oom
-- Makes outcomes take effect: what events of some partitions did, together with the note that they are done.
-- keys: owner (hash partition -> lease), io (hash name -> incarnation), done (hash partition -> events committed so far,
--       number up to which all are, their bytes, and how far behind each other those done beyond it are), dead (stream), who (hash
--       client -> io-node), lost (set of members), over (hash client -> partition), kept (hash 'partition:number' -> event),
--       then the buckets and the streams of writes for other shards that are named below
-- arguments: what keys begin with of outboxes, of the bytes put into them and of the bytes read of them; most entries in an
--            outbox, most bytes; what keys of live sets begin with (empty when nobody is refused);
--            number of partitions, for each its number, the lease it is held by, and what stands for it in `done` before and
--            after this;
--            number of entries for outboxes, each as: io-node or '*' for all, field, value;
--            number of dead letters, each as: letter, app, client;
--            number of writes, each as: which key, 's' set 'd' delete 'x' for another shard, key, value;
--            number of open events that leave the log, each as: field of `kept`, event;
--            number of those that were kept and are committed, each as: field of `kept`;
--            then for each client that is gone: 'd' by its last event, or 'r' refused; client, partition
-- answers: 'done', 'full' when an outbox is, or those partitions that are not as was said; then nothing was done
-- invariant: an event takes effect once: what stands in `done` says whether it has. All of it does: nothing here can
--            fail after the first write, for every key has been looked at before. All outboxes have one order. A client that is
--            refused has no disconnect: it leaves the live set, or stands in `over` until the one in the log was passed.
local owner, io, done, dead, who, lost, over, kept = unpack(KEYS, 1, 8)
local out, out_in, out_read, live = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local most_out, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local next_argument = 7
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end

-- Look.
local partitions = tonumber(argument())
local fields, changed = {}, {}
for i = 1, partitions do
  fields[i] = ARGV[4 + 4 * i]
  changed[2 * i - 1] = fields[i]
  changed[2 * i] = ARGV[7 + 4 * i]
end
local leases, before = redis.call('HMGET', owner, unpack(fields)), redis.call('HMGET', done, unpack(fields))
local strange, is_done = {}, false
for i = 1, partitions do
  local stands = before[i] or '0 0 0'
  if leases[i] == ARGV[5 + 4 * i] and stands == changed[2 * i] then
    is_done = true
  elseif leases[i] ~= ARGV[5 + 4 * i] or stands ~= ARGV[6 + 4 * i] then
    table.insert(strange, fields[i])
  end
end
if #strange > 0 then return strange end
if is_done then return 'done' end
next_argument = next_argument + 4 * partitions
for i = 9, #KEYS do redis.call('EXISTS', KEYS[i]) end
redis.call('XLEN', dead)
redis.call('HLEN', kept)
local nodes, outbox, waiting, counters = redis.call('HGETALL', io), {}, {}, {}
for i = 1, #nodes, 2 do
  counters[i] = out_in .. nodes[i + 1] .. '@' .. nodes[i]
  counters[i + 1] = out_read .. nodes[i + 1] .. '@' .. nodes[i]
end
local bytes = #nodes > 0 and redis.call('MGET', unpack(counters)) or {}
for i = 1, #nodes, 2 do
  local node = nodes[i]
  outbox[node] = out .. nodes[i + 1] .. '@' .. node
  waiting[node] = {}
  local unread = (bytes[i] or 0) - (bytes[i + 1] or 0)
  if unread >= most_bytes or redis.call('XLEN', outbox[node]) >= most_out then return 'full' end
end
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
for _ = 1, tonumber(argument()) do
  local node, field, value = argument(), argument(), argument()
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
for _ = 1, tonumber(argument()) do
  redis.call('XADD', dead, '*', 'd', argument(), 'a', argument(), 'c', argument())
end
-- The last write to a key stands. Deletes come at the end, for they may empty the bucket.
local sets, deletes = {}, {}
for _ = 1, tonumber(argument()) do
  local key, how, field, value = KEYS[tonumber(argument())], argument(), argument(), argument()
  if how == 'x' then
    redis.call('XADD', key, '*', 'w', value)
  else
    sets[key], deletes[key] = sets[key] or {}, deletes[key] or {}
    sets[key][field] = how == 's' and value or nil
    deletes[key][field] = how == 'd' or nil
  end
end
for key, values in pairs(sets) do
  for field, value in pairs(values) do redis.call('HSET', key, field, value) end
end
for key, gone in pairs(deletes) do
  for field in pairs(gone) do redis.call('HDEL', key, field) end
end
for _ = 1, tonumber(argument()) do redis.call('HSET', kept, argument(), argument()) end
for _ = 1, tonumber(argument()) do redis.call('HDEL', kept, argument()) end
while next_argument <= #ARGV do
  local how, client, partition = argument(), argument(), argument()
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
return 'done'
