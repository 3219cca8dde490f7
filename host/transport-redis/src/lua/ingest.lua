-- Appends events of an io-node to the logs of their partitions, and sends hints to the owners of these.
-- keys: io (hash name -> incarnation); live set of the member (hash client -> last will, a batch; the empty field holds the number of
--       the last call and, unless it was plainly accepted, its answer); who (hash client -> io-node); in (hash: partition -> events
--       accepted so far, which is the number of the last one; 'b' .. partition -> their bytes; 'tail' -> events of all partitions); done
--       (hash partition -> progress: events committed, number up to which all are, their bytes, more); owner (hash partition -> lease);
--       then for each partition of the call its log (see shared/log.lua)
-- arguments: name; incarnation; number of this call; backlog of a partition in events; in bytes; key prefix of wake-up streams; number
--            of partitions, and for each its number, its events, their bytes, and their batch; then for each session that begins: 'c',
--            client, last will; for each that ends: 'd', client, nothing
-- answers: {'taken', partition, open events, their bytes, ...} for partitions that are more than half full.
--          Nothing is accepted with any other answer: {'fenced'}; {'full', partition, room in events, room in bytes, ...};
--          {'over', client, ...} for disconnects of clients that are not live; {'late'} for a copy of a call before the last; {'behind'}
--          when earlier answered calls are unknown, so that data are lost
-- invariant: a call is accepted as a whole or not at all. The id of an entry is the number of its last event.
-- late copy: harmless. The last call is stored with its answer, so its copy gets the same answer. A copy of an earlier call is
--            refused: an io-node makes a call only after the one before was answered.
-- cost: at most eight calls, one for each partition, one for each owner of a partition, and at most three for each session that begins
--       or ends.
local io, live, who, taken, done, owner = unpack(KEYS, 1, 6)
local most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local wakes, partitions = ARGV[6], tonumber(ARGV[7])
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

-- Checks.
local sessions = 8 + 4 * partitions
if #ARGV >= sessions then redis.call('HLEN', who) end
local fields, sizes = {}, {'tail'}
for i = 1, partitions do
  fields[i] = ARGV[4 + 4 * i]
  sizes[2 * i] = fields[i]
  sizes[2 * i + 1] = 'b' .. fields[i]
end
local counts, committed = redis.call('HMGET', taken, unpack(sizes)), redis.call('HMGET', done, unpack(fields))
local leases = redis.call('HMGET', owner, unpack(fields))
local answer, full, changed, events = {'taken'}, {'full'}, {}, 0
for i = 1, partitions do
  local before, before_bytes = tonumber(counts[2 * i] or 0), tonumber(counts[2 * i + 1] or 0)
  local its, its_bytes = tonumber(ARGV[5 + 4 * i]), tonumber(ARGV[6 + 4 * i])
  local done_events, done_bytes = string.match(committed[i] or '0 0 0', '^(%d+) %d+ (%d+)')
  local open, open_bytes = before - done_events, before_bytes - done_bytes
  -- Corrects the count of bytes when no event is open.
  if open <= 0 then
    open_bytes, before_bytes = 0, tonumber(done_bytes)
  end
  local room, room_bytes = math.max(0, most - open), math.max(0, most_bytes - open_bytes)
  -- An event larger than the backlog is accepted alone.
  if open <= 0 and its == 1 then room_bytes = math.max(room_bytes, its_bytes) end
  if room < its or room_bytes < its_bytes then
    table.insert(full, fields[i])
    table.insert(full, string.format('%.0f', room))
    table.insert(full, string.format('%.0f', room_bytes))
  elseif open + its > most / 2 or open_bytes + its_bytes > most_bytes / 2 then
    table.insert(answer, fields[i])
    table.insert(answer, string.format('%.0f', open + its))
    table.insert(answer, string.format('%.0f', open_bytes + its_bytes))
  end
  events = events + its
  counts[2 * i] = before
  changed[4 * i - 3] = fields[i]
  changed[4 * i - 2] = string.format('%.0f', before + its)
  changed[4 * i - 1] = sizes[2 * i + 1]
  changed[4 * i] = string.format('%.0f', before_bytes + its_bytes)
end
if #full > 1 then return remembered(full) end
local over, came = {'over'}, {}
for i = sessions, #ARGV, 3 do
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
for i = 1, partitions do
  local before, batch = counts[2 * i], ARGV[7 + 4 * i]
  local after = before + ARGV[5 + 4 * i]
  local is_plain = add_to_log(KEYS[6 + i], before, after, batch)
  hint(leases[i], fields[i], after, is_plain and batch or '')
end
redis.call('HSET', taken, 'tail', string.format('%.0f', (counts[1] or 0) + events), unpack(changed))
for i = sessions, #ARGV, 3 do
  if ARGV[i] == 'c' then
    redis.call('HSET', who, ARGV[i + 1], ARGV[1])
    redis.call('HSET', live, ARGV[i + 1], ARGV[i + 2])
  else
    redis.call('HDEL', who, ARGV[i + 1])
    redis.call('HDEL', live, ARGV[i + 1])
  end
end
send_hints(wakes)
return remembered(answer)
