-- Takes events of an io-node into the log.
-- keys: io (hash name -> incarnation), live of the member (hash client -> last will, a batch; the empty field keeps the number of
--       the last call and, unless that was taken and nothing else, what was answered to it), who (hash client -> io-node),
--       log (stream), in (hash partition -> events taken in so far; 'b' and partition -> their bytes; 'tail' -> number of the last
--       event, 'floor' -> number up to which the log was trimmed; 'bytes' -> all bytes taken in so far, 'due' -> what these
--       are when a partition may be half full), done (hash partition -> events committed so far, a number, their bytes, and
--       more)
-- arguments: name, incarnation, number of this call, backlog of a partition, the same in bytes, how many events, the batch
--            of them, number of partitions, for each its number, how many of the events are its, and their bytes;
--            then for each client that comes or goes: 'c', client, last will; or 'd', client, nothing
-- answers: {'fenced'}; {'taken', partition, open events, their bytes, ...} for partitions that are more than half full;
--          or what stands against it when nothing was taken: {'full', partition, room for how many, for how many bytes, ...},
--          {'over', client, ...} for disconnects of clients that are not in the live set any more, {'blocked'} when the
--          log takes nothing, {'late'} for a copy of an earlier call than the last, {'behind'} when calls before this one, which
--          were answered, are not known here: the data are older than they were
-- invariant: a call is taken whole or not at all. The id of an entry is the number of its last event.
-- late copy: harmless. The last call's number is kept with its answer, whatever that was, so a copy of it is given the same
--            answer; one of an earlier call is refused, and the io-node makes no call before the one before it was answered.
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
  if #full > 1 then return remembered(full) end
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
if #over > 1 then return remembered(over) end

-- Write.
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
