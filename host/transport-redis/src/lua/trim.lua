#!lua flags=allow-oom
-- Trims from the log the entries up to the first uncommitted event.
-- keys: log (stream); in (hash, see ingest.lua); done (hash partition -> progress: events committed, number up to which all are,
--       their bytes)
-- arguments: backlog of a partition in bytes
-- answers: nothing
-- invariant: an uncommitted event that is not set aside is in the log. No partition is half full in bytes before `bytes` reaches
--            `due`.
-- late copy: harmless. It trims by the present progress.
-- cost: six calls, and one step for each partition of the shard.
local taken, done, floor, largest = {}, {}, nil, 0
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do taken[all[i]] = all[i + 1] end
all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do done[all[i]] = all[i + 1] end
redis.call('XLEN', KEYS[1])
for partition, count in pairs(taken) do
  if tonumber(partition) then
    local committed, up_to, bytes = string.match(done[partition] or '0 0 0', '^(%d+) (%d+) (%d+)')
    if tonumber(committed) < tonumber(count) then
      floor = math.min(floor or tonumber(up_to), tonumber(up_to))
      largest = math.max(largest, (taken['b' .. partition] or 0) - bytes)
    end
  end
end
local due = string.format('%.0f', (taken.bytes or 0) + math.max(0, ARGV[1] / 2 - largest))
if due ~= taken.due then redis.call('HSET', KEYS[2], 'due', due) end
floor = floor or tonumber(taken.tail or 0)
if floor <= tonumber(taken.floor or 0) then return end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', floor + 1))
redis.call('HSET', KEYS[2], 'floor', string.format('%.0f', floor))
