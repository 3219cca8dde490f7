#!lua flags=allow-oom
-- Moves an entry of a log that is no batch of events to the dead letters.
-- keys: log of a partition (stream, see shared/log.lua); dead (stream)
-- arguments: id of the entry; the dead letter; a value of the entry
-- answers: nothing
-- invariant: the entry is moved once, by the first caller.
-- late copy: harmless. The entry is gone, and another entry with the same id has other values.
-- cost: four calls.
redis.call('XLEN', KEYS[2])
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
local is_it = false
for _, value in ipairs(entry and entry[2] or {}) do is_it = is_it or value == ARGV[3] end
if not is_it then return end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'd', ARGV[2])
