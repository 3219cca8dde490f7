#!lua flags=allow-oom
-- Makes outcomes take effect: takes each event out of its log together with all that handling it did.
-- keys: owner (hash partition -> lease), io (hash name -> incarnation), open (hash client -> events not committed),
--       dead (stream), then one log for each partition here, then the buckets and the streams of writes for other shards
--       that are named below
-- arguments: what outbox keys begin with, most entries in an outbox, most dead letters, number of partitions, for each
--            its number and the lease it is held by; then for each outcome:
--            which partition, number of its event, its client (may be empty), 1 if that is the client's last event else 0,
--            a dead letter (may be empty),
--            how many writes, each as: which key, 's' set 'd' delete 'x' for another shard, key, value;
--            how many entries, each as: io-node or '*' for all, commands
-- answers: 'full' when an outbox is, and nothing was done; else for each partition 1, or 0 when it is held by another
-- invariant: an event takes effect once: when its entry leaves the log, and whole: nothing here can fail after the first
--            write, for every key has been looked at before. All outboxes have one order.
local owner, io, open, dead = unpack(KEYS, 1, 4)
local out, most_out, most_dead, partitions = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])

-- Look.
local held, next_argument = {}, 5
for i = 1, partitions do
  held[i] = redis.call('HGET', owner, ARGV[next_argument]) == ARGV[next_argument + 1] and 1 or 0
  redis.call('XLEN', KEYS[4 + i])
  next_argument = next_argument + 2
end
for i = 5 + partitions, #KEYS do redis.call('EXISTS', KEYS[i]) end
redis.call('HLEN', open)
redis.call('XLEN', dead)
local nodes = redis.call('HGETALL', io)
local outbox, waiting = {}, {}
for i = 1, #nodes, 2 do
  local key = out .. nodes[i + 1] .. '@' .. nodes[i]
  outbox[nodes[i]] = key
  waiting[key] = {}
  if redis.call('XLEN', key) >= most_out then return 'full' end
end

-- Write.
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end
local function flush(key)
  if #waiting[key] > 0 then redis.call('XADD', key, '*', unpack(waiting[key])) end
  waiting[key] = {}
end
local function append(key, commands)
  table.insert(waiting[key], 'c')
  table.insert(waiting[key], commands)
  if #waiting[key] >= 1000 then flush(key) end
end
local sets, deletes = {}, {}
while next_argument <= #ARGV do
  local partition, number, client, is_last, letter = tonumber(argument()), argument(), argument(), argument(), argument()
  local takes_effect = held[partition] == 1 and redis.call('XDEL', KEYS[4 + partition], number .. '-0') == 1
  if takes_effect and client ~= '' then
    if is_last == '1' or redis.call('HINCRBY', open, client, -1) < 0 then redis.call('HDEL', open, client) end
  end
  if takes_effect and letter ~= '' then
    redis.call('XADD', dead, 'MAXLEN', '~', most_dead, '*', 'd', letter)
  end
  for _ = 1, tonumber(argument()) do
    local key, how, field, value = KEYS[tonumber(argument())], argument(), argument(), argument()
    if takes_effect and how == 'x' then
      redis.call('XADD', key, '*', 'w', value)
    elseif takes_effect then
      -- The last write to a key stands. Deletes come at the end, for they may empty the bucket.
      sets[key], deletes[key] = sets[key] or {}, deletes[key] or {}
      sets[key][field] = how == 's' and value or nil
      deletes[key][field] = how == 'd' or nil
    end
  end
  for _ = 1, tonumber(argument()) do
    local node, commands = argument(), argument()
    if takes_effect and node == '*' then
      for i = 1, #nodes, 2 do append(outbox[nodes[i]], commands) end
    elseif takes_effect and outbox[node] then
      append(outbox[node], commands)
    end
  end
end
for i = 1, #nodes, 2 do flush(outbox[nodes[i]]) end
for key, fields in pairs(sets) do
  for field, value in pairs(fields) do redis.call('HSET', key, field, value) end
end
for key, fields in pairs(deletes) do
  for field in pairs(fields) do redis.call('HDEL', key, field) end
end
return held
