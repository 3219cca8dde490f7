-- Appends events of an io-node to the log.
-- keys: io (hash name -> incarnation); live set of the member (hash client -> last will, a batch; the empty field holds the number of
--       the last call and, unless it was plainly accepted, its answer); who (hash client -> io-node); log (stream); in (hash:
--       partition -> events accepted so far, 'b' .. partition -> their bytes, 'tail' -> number of the last event, 'floor' -> number up
--       to which the log is trimmed, 'bytes' -> all bytes accepted so far, 'due' -> value of 'bytes' from which a partition may be
--       half full); done (hash partition -> progress: events committed, number up to which all are, their bytes, more)
-- arguments: name; incarnation; number of this call; backlog of a partition in events; in bytes; number of events; their batch;
--            number of partitions, and for each its number, its events and their bytes; then for each session that begins: 'c',
--            client, last will; for each that ends: 'd', client, nothing
-- answers: {'taken', partition, open events, their bytes, ...} for partitions that are more than half full.
--          Nothing is accepted with any other answer: {'fenced'}; {'full', partition, room in events, room in bytes, ...};
--          {'over', client, ...} for disconnects of clients that are not live; {'blocked'} when the log accepts no entry; {'late'} for a
--          copy of a call before the last; {'behind'} when earlier answered calls are unknown, so that data are lost
-- invariant: a call is accepted as a whole or not at all. The id of an entry is the number of its last event.
-- late copy: harmless. The last call is stored with its answer, so its copy gets the same answer. A copy of an earlier call is
--            refused: an io-node makes a call only after the one before was answered.
-- cost: at most ten calls, and at most three for each session that begins or ends.
local io, live, who, log, taken, done = unpack(KEYS)
local most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local events, partitions = tonumber(ARGV[6]), tonumber(ARGV[8])
if redis.call('HGET', io, ARGV[1]) ~= ARGV[2] then return {'fenced'} end
local number = tonumber(ARGV[3])
local last, said = string.match(redis.call('HGET', live, '') or '0', '^(%d+) ?(.*)$')
if number < tonumber(last) then return {'late'} end
if number > last + 1 then return {'behind'} end
if number == tonumber(last) then return said == '' and {'taken'} or cmsgpack.unpack(said) end
local function remembered(answer)
  local is_taken = answer[1] == 'taken' and #answer == 1
  redis.call('HSET', live, '', is_taken and ARGV[3] or ARGV[3] .. ' ' .. cmsgpack.pack(answer))
  return answer
end

-- Checks. The append to the log comes first among the writes, because it may fail.
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
-- A log shorter than half a partition's backlog has no half-full partition.
if tail + events - (counts[2] or 0) > most / 2 or all_bytes > (counts[4] or most_bytes / 2) then
  local full = {'full'}
  local committed = redis.call('HMGET', done, unpack(fields))
  for i = 1, partitions do
    local its, its_bytes = tonumber(ARGV[7 + 3 * i]), tonumber(ARGV[8 + 3 * i])
    local done_events, done_bytes = string.match(committed[2 * i + 3] or '0 0 0', '^(%d+) %d+ (%d+)')
    local open, open_bytes = (counts[2 * i + 3] or 0) - done_events, (counts[2 * i + 4] or 0) - done_bytes
    -- Corrects the count of bytes when no event is open.
    if open <= 0 then
      open_bytes, counts[2 * i + 4] = 0, tonumber(done_bytes)
    end
    local room, room_bytes = math.max(0, most - open), math.max(0, most_bytes - open_bytes)
    -- An event larger than the backlog is accepted alone.
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
  if #full > 1 then return remembered(full) end
end
local over, came = {'over'}, {}
for i = clients, #ARGV, 3 do
  local client = ARGV[i + 1]
  if ARGV[i] == 'c' then
    came[client] = true
  elseif not came[client] and redis.call('HEXISTS', live, client) == 0 then
    -- The connection was refused, so no app receives the disconnect.
    table.insert(over, client)
  end
end
if #over > 1 then return remembered(over) end

-- Writes.
tail = add_to_log(log, tail, events, ARGV[7])
if not tail then return remembered({'blocked'}) end
local changed = {'tail', string.format('%.0f', tail), 'bytes', string.format('%.0f', all_bytes)}
for i = 1, partitions do
  table.insert(changed, fields[2 * i + 3])
  table.insert(changed, (counts[2 * i + 3] or 0) + ARGV[7 + 3 * i])
  table.insert(changed, fields[2 * i + 4])
  table.insert(changed, (counts[2 * i + 4] or 0) + ARGV[8 + 3 * i])
end
redis.call('HSET', taken, unpack(changed))
for i = clients, #ARGV, 3 do
  if ARGV[i] == 'c' then
    redis.call('HSET', who, ARGV[i + 1], ARGV[1])
    redis.call('HSET', live, ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('HDEL', who, ARGV[i + 1])
    redis.call('HDEL', live, ARGV[i + 1])
  end
end
return remembered(answer)
