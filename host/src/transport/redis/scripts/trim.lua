#!lua flags=allow-oom
-- Takes out of the log what is committed, and everything before it is.
-- keys: log (stream), in (hash partition -> events taken in so far, 'tail', 'floor'), done (hash partition -> events
--       committed so far, and the number up to which all are)
-- arguments: none
-- answers: nothing
-- invariant: an event that is not committed is in the log.
local taken, done, floor = redis.call('HGETALL', KEYS[2]), {}, nil
local all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do done[all[i]] = all[i + 1] end
redis.call('XLEN', KEYS[1])
local tail, before = 0, 0
for i = 1, #taken, 2 do
  local partition, count = taken[i], tonumber(taken[i + 1])
  if partition == 'tail' then
    tail = count
  elseif partition == 'floor' then
    before = count
  else
    local committed, up_to = string.match(done[partition] or '0 0', '^(%d+) (%d+)')
    if tonumber(committed) < count then floor = math.min(floor or tonumber(up_to), tonumber(up_to)) end
  end
end
floor = floor or tail
if floor <= before then return end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', floor + 1))
redis.call('HSET', KEYS[2], 'floor', string.format('%.0f', floor))
