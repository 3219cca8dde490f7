#!lua
-- Takes events of an io-node into the log.
-- keys: io (hash name -> incarnation), live of the member (hash client -> last will, a batch; the empty field keeps the number of
--       the last call that was taken), who (hash client -> io-node), log (stream), in (hash partition -> events taken in
--       so far; 'b' and partition -> their bytes; 'tail' -> number of the last event, 'floor' -> number up to which the log
--       was trimmed; 'bytes' -> all bytes taken in so far, 'due' -> what these are when a partition may be half full), done
--       (hash partition -> events committed so far, a number, their bytes, and more)
-- arguments: name, incarnation, number of this call, backlog of a partition, the same in bytes, how many events, the batch
--            of them, number of partitions, for each its number, how many of the events are its, and their bytes;
--            then for each client that comes or goes: 'c', client, last will; or 'd', client, nothing
-- answers: {'fenced'}; {'taken', partition, open events, their bytes, ...} for partitions that are more than half full;
--          or what stands against it when nothing was taken: {'full', partition, room for how many, for how many bytes, ...},
--          {'over', client, ...} for disconnects of clients that are not in the live set any more, {'blocked'}
-- invariant: a call is taken whole or not at all, and one that comes twice is taken once. The id of an entry is the number
--            of its last event.
local io, live, who, log, taken, done = unpack(KEYS)
local most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local events, partitions = tonumber(ARGV[6]), tonumber(ARGV[8])
if redis.call('HGET', io, ARGV[1]) ~= ARGV[2] then return {'fenced'} end
if tonumber(ARGV[3]) <= tonumber(redis.call('HGET', live, '') or 0) then return {'taken'} end

-- Look. The log is written to first, and may be refused then.
local clients = 9 + 3 * partitions
if #ARGV >= clients then redis.call('HLEN', who) end
local fields, bytes = {'tail', 'floor', 'bytes', 'due'}, 0
for i = 1, partitions do
  fields[2 * i + 3] = ARGV[6 + 3 * i]
  fields[2 * i + 4] = 'b' .. ARGV[6 + 3 * i]
  bytes = bytes + ARGV[8 + 3 * i]
end
local counts = redis.call('HMGET', taken, unpack(fields))
for i = 1, #fields do counts[i] = counts[i] and tonumber(counts[i]) end
local tail, all_bytes, answer = counts[1] or 0, (counts[3] or 0) + bytes, {'taken'}
-- While the whole log is shorter than half a partition may be, none is half full.
if tail + events - (counts[2] or 0) > most / 2 or all_bytes > (counts[4] or most_bytes / 2) then
  local full = {'full'}
  local committed = redis.call('HMGET', done, unpack(fields))
  for i = 1, partitions do
    local its, its_bytes = tonumber(ARGV[7 + 3 * i]), tonumber(ARGV[8 + 3 * i])
    local done_events, done_bytes = string.match(committed[2 * i + 3] or '0 0 0', '^(%d+) %d+ (%d+)')
    local open, open_bytes = (counts[2 * i + 3] or 0) - done_events, (counts[2 * i + 4] or 0) - done_bytes
    -- Where nothing is open, no miscount stays.
    if open <= 0 then
      open_bytes, counts[2 * i + 4] = 0, tonumber(done_bytes)
    end
    local room, room_bytes = math.max(0, most - open), math.max(0, most_bytes - open_bytes)
    -- An event that is larger than the budget goes alone.
    if open <= 0 and its == 1 then room_bytes = math.max(room_bytes, its_bytes) end
    if room < its or room_bytes < its_bytes then
      table.insert(full, fields[2 * i + 3])
      table.insert(full, string.format('%.0f', room))
      table.insert(full, string.format('%.0f', room_bytes))
    elseif open + its > most / 2 or open_bytes + its_bytes > most_bytes / 2 then
      table.insert(answer, fields[2 * i + 3])
      table.insert(answer, string.format('%.0f', open + its))
      table.insert(answer, string.format('%.0f', open_bytes + its_bytes))
    end
  end
  if #full > 1 then return full end
end
local over, came = {'over'}, {}
for i = clients, #ARGV, 3 do
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
local added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', ARGV[7])
if type(added) == 'table' and added.err then
  -- Something foreign stands there with a greater id.
  local info = redis.call('XINFO', 'STREAM', log)
  for field = 1, #info, 2 do
    if info[field] == 'last-generated-id' then tail = tonumber(string.match(info[field + 1], '^%d+')) end
  end
  added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', ARGV[7])
  if type(added) == 'table' and added.err then return {'blocked'} end
end
local changed = {'tail', string.format('%.0f', tail + events), 'bytes', string.format('%.0f', all_bytes)}
for i = 1, partitions do
  table.insert(changed, fields[2 * i + 3])
  table.insert(changed, (counts[2 * i + 3] or 0) + ARGV[7 + 3 * i])
  table.insert(changed, fields[2 * i + 4])
  table.insert(changed, (counts[2 * i + 4] or 0) + ARGV[8 + 3 * i])
end
redis.call('HSET', taken, unpack(changed))
redis.call('HSET', live, '', ARGV[3])
for i = clients, #ARGV, 3 do
  if ARGV[i] == 'c' then
    redis.call('HSET', who, ARGV[i + 1], ARGV[1])
    redis.call('HSET', live, ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('HDEL', who, ARGV[i + 1])
    redis.call('HDEL', live, ARGV[i + 1])
  end
end
return answer
