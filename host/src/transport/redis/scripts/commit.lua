#!lua flags=allow-oom
-- Makes outcomes take effect: takes each event out of its log together with all that handling it did.
-- keys: owner (hash partition -> lease), io (hash name -> incarnation), open (hash client -> events not committed),
--       dead (stream), who (hash client -> io-node), lost (set of members), then one log for each partition here, then the buckets and the streams of writes for other shards
--       that are named below
-- arguments: what outbox keys begin with, most entries in an outbox, most dead letters, what keys of live sets begin with
--            (empty when nobody is refused), number of partitions, for each its number and the lease it is held by;
--            then for each outcome:
--            which partition, number of its event, its client (may be empty), 'd' if that is the client's last event,
--            'r' if the client is refused, else 'm', a dead letter (may be empty),
--            how many writes, each as: which key, 's' set 'd' delete 'x' for another shard, key, value;
--            how many entries, each as: io-node or '*' for all, commands
-- answers: 'full' when an outbox is, and nothing was done; else for each partition 1, or 0 when it is held by another
-- invariant: an event takes effect once: when its entry leaves the log, and whole: nothing here can fail after the first
--            write, for every key has been looked at before. All outboxes have one order. A client that is refused has
--            no disconnect: it leaves the live set, and one that is in the log already leaves that.
local owner, io, open, dead, who, lost = unpack(KEYS, 1, 6)
local out, most_out, most_dead, live, partitions = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

-- Look.
local held, next_argument = {}, 6 + 2 * partitions
for i = 1, partitions do
  held[i] = ARGV[4 + 2 * i]
  redis.call('XLEN', KEYS[6 + i])
end
for i, lease in ipairs(redis.call('HMGET', owner, unpack(held))) do
  held[i] = lease == ARGV[5 + 2 * i] and 1 or 0
end
for i = 7 + partitions, #KEYS do redis.call('EXISTS', KEYS[i]) end
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
-- The live sets that a refused client can be in, by the name of its io-node.
local lives = {}
if live ~= '' then
  redis.call('HLEN', who)
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
-- Takes a client's disconnect, which is behind this event, out of the log.
local function take_end(log, number, client)
  local from = number
  while true do
    from = string.format('%.0f', tonumber(from) + 1)
    local page = redis.call('XRANGE', log, from .. '-0', '+', 'COUNT', 500)
    if #page == 0 then return end
    for _, entry in ipairs(page) do
      if entry[2][3] == 'd' and entry[2][4] == client then
        redis.call('XDEL', log, entry[1])
        return
      end
    end
    from = string.match(page[#page][1], '^%d+')
  end
end
local function forget(log, number, client)
  local node = redis.call('HGET', who, client)
  if not node then return take_end(log, number, client) end
  redis.call('HDEL', who, client)
  for _, key in ipairs(lives[node] or {}) do redis.call('HDEL', key, client) end
end
local sets, deletes = {}, {}
local done, gone = {}, {}
while next_argument <= #ARGV do
  local partition, number, client, kind, letter = tonumber(argument()), argument(), argument(), argument(), argument()
  local log = KEYS[6 + partition]
  local takes_effect = held[partition] == 1 and redis.call('XDEL', log, number .. '-0') == 1
  if takes_effect and client ~= '' then
    done[client] = (done[client] or 0) + 1
    gone[client] = gone[client] or kind ~= 'm'
    if kind == 'r' then forget(log, number, client) end
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
local clients = {}
for client in pairs(done) do table.insert(clients, client) end
if #clients > 0 then
  local opens, ends = {}, {}
  for i, count in ipairs(redis.call('HMGET', open, unpack(clients))) do
    local client = clients[i]
    if gone[client] then
      table.insert(ends, client)
    else
      table.insert(opens, client)
      table.insert(opens, math.max(0, tonumber(count or 0) - done[client]))
    end
  end
  if #opens > 0 then redis.call('HSET', open, unpack(opens)) end
  if #ends > 0 then redis.call('HDEL', open, unpack(ends)) end
end
for key, fields in pairs(sets) do
  for field, value in pairs(fields) do redis.call('HSET', key, field, value) end
end
for key, fields in pairs(deletes) do
  for field in pairs(fields) do redis.call('HDEL', key, field) end
end
return held
