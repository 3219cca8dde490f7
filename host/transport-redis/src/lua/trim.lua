#!lua flags=allow-oom
-- Trims from the logs of partitions the entries up to the first uncommitted event that is not set aside.
-- keys: done (hash partition -> progress: events committed, number up to which all are committed or set aside, more); then for each
--       partition its log (see shared/log.lua)
-- arguments: partitions
-- answers: for each partition the number up to which its log is trimmed
-- invariant: an uncommitted event that is not set aside is in the log.
-- late copy: harmless. It trims by the present progress.
-- cost: one call, and one for each partition.
local trimmed = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i = 1, #ARGV do
  trimmed[i] = tonumber(string.match(trimmed[i] or '', '^%d+ (%d+)') or 0)
  redis.call('XTRIM', KEYS[1 + i], 'MINID', string.format('%.0f-0', trimmed[i] + 1))
end
return trimmed
