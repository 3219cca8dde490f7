#!lua flags=allow-oom
-- Puts an entry of the log aside that is no batch of events of this version.
-- keys: log (stream), dead (stream), in (hash partition -> events taken in so far, 'tail' -> number of the last event)
-- arguments: id of the entry, dead letter, a value of the entry
-- answers: nothing
-- invariant: it is put aside once, by whoever is first. The log goes on with its own numbers, whatever the id of what was put aside.
-- late copy: harmless. The entry is not there any more; another that has come to its id has other values.
redis.call('XLEN', KEYS[2])
local tail = redis.call('HGET', KEYS[3], 'tail') or '0'
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
local is_it = false
for _, value in ipairs(entry and entry[2] or {}) do is_it = is_it or value == ARGV[3] end
if not is_it then return end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'd', ARGV[2])
-- Refused while a greater id is in the log; then the last of those to be put aside sets it back.
redis.pcall('XSETID', KEYS[1], tail .. '-0')
