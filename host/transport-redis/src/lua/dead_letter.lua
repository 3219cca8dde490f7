#!lua flags=allow-oom
-- Moves an entry of the log that is no batch of events to the dead letters.
-- keys: log (stream); dead (stream); in (hash, see ingest.lua)
-- arguments: id of the entry; the dead letter; a value of the entry
-- answers: nothing
-- invariant: the entry is moved once, by the first caller. The log continues with its own numbers, whatever the entry's id.
-- late copy: harmless. The entry is gone, and another entry with the same id has other values.
-- cost: six calls.
redis.call('XLEN', KEYS[2])
local tail = redis.call('HGET', KEYS[3], 'tail') or '0'
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
local is_it = false
for _, value in ipairs(entry and entry[2] or {}) do is_it = is_it or value == ARGV[3] end
if not is_it then return end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'd', ARGV[2])
-- Fails while another foreign entry has a greater id; the removal of the last one resets the id.
redis.pcall('XSETID', KEYS[1], tail .. '-0')
