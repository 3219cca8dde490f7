#!lua
-- Takes events of an io-node into the log.
-- keys: io (hash name -> incarnation), live of the member (hash client -> last will, a batch; the empty field keeps the number of
--       the last call that was taken), who (hash client -> io-node), log (stream), in (hash partition -> events taken in
--       so far; 'tail' -> number of the last event, 'floor' -> number up to which the log was trimmed), done (hash
--       partition -> events committed so far, and more)
-- arguments: name, incarnation, number of this call, backlog of a partition, how many events, the batch of them,
--            number of partitions, for each its number and how many of the events are its;
--            then for each client that comes or goes: 'c', client, last will; or 'd', client, nothing
-- answers: {'fenced'}, {'taken'}, or what stands against it when nothing was taken: {'full', partition, room for how many,
--          ...}, {'over', client, ...} for disconnects of clients that are not in the live set any more, {'blocked'}
-- invariant: a call is taken whole or not at all, and one that comes twice is taken once. The id of an entry is the number
--            of its last event.
local io, live, who, log, taken, done = unpack(KEYS)
local events, partitions = tonumber(ARGV[5]), tonumber(ARGV[7])
if redis.call('HGET', io, ARGV[1]) ~= ARGV[2] then return {'fenced'} end
if tonumber(ARGV[3]) <= tonumber(redis.call('HGET', live, '') or 0) then return {'taken'} end

-- Look. The log is written to first, and may be refused then.
if #ARGV > 7 + 2 * partitions then redis.call('HLEN', who) end
local fields = {'tail', 'floor'}
for i = 1, partitions do fields[i + 2] = ARGV[6 + 2 * i] end
local counts = redis.call('HMGET', taken, unpack(fields))
local tail = tonumber(counts[1] or 0)
-- While the whole log is shorter than a partition may be, none is full.
if tail + events - tonumber(counts[2] or 0) > tonumber(ARGV[4]) then
  local full = {'full'}
  local committed = redis.call('HMGET', done, unpack(fields))
  for i = 1, partitions do
    local waiting = tonumber(counts[i + 2] or 0) - tonumber(string.match(committed[i + 2] or '0', '^%d+'))
    local room = math.max(0, tonumber(ARGV[4]) - waiting)
    if room < tonumber(ARGV[7 + 2 * i]) then
      table.insert(full, fields[i + 2])
      table.insert(full, tostring(room))
    end
  end
  if #full > 1 then return full end
end
local over, came = {'over'}, {}
for i = 8 + 2 * partitions, #ARGV, 3 do
  local client = ARGV[i + 1]
  if ARGV[i] == 'c' then
    came[client] = true
  elseif not came[client] and redis.call('HEXISTS', live, client) == 0 then
    -- It was refused and has been forgotten, and nobody is to hear of its end.
    table.insert(over, client)
  end
end
if #over > 1 then return over end

-- Write.
local added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', ARGV[6])
if type(added) == 'table' and added.err then
  -- Something foreign stands there with a greater id.
  local info = redis.call('XINFO', 'STREAM', log)
  for field = 1, #info, 2 do
    if info[field] == 'last-generated-id' then tail = tonumber(string.match(info[field + 1], '^%d+')) end
  end
  added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', ARGV[6])
  if type(added) == 'table' and added.err then return {'blocked'} end
end
local changed = {'tail', string.format('%.0f', tail + events)}
for i = 1, partitions do
  changed[2 * i + 1] = fields[i + 2]
  changed[2 * i + 2] = (counts[i + 2] or 0) + ARGV[7 + 2 * i]
end
redis.call('HSET', taken, unpack(changed))
redis.call('HSET', live, '', ARGV[3])
for i = 8 + 2 * partitions, #ARGV, 3 do
  if ARGV[i] == 'c' then
    redis.call('HSET', who, ARGV[i + 1], ARGV[1])
    redis.call('HSET', live, ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('HDEL', who, ARGV[i + 1])
    redis.call('HDEL', live, ARGV[i + 1])
  end
end
return {'taken'}
