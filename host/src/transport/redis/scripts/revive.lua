#!lua
-- Puts a dead letter's event at the end of the log again.
-- keys: dead (stream), log (stream), in (hash partition -> events taken in so far, 'b' and partition -> their
--       bytes, 'bytes', 'tail'), who (hash client -> io-node)
-- arguments: id of the dead letter, partition, client (may be empty), a batch of the event
-- answers: 'queued', 'unknown' or 'gone'
-- invariant: a client has no event after its disconnect, and a dead letter is revived once.
local dead, log, taken, who = unpack(KEYS)
local id, partition, client = ARGV[1], ARGV[2], ARGV[3]
if client ~= '' and not redis.call('HGET', who, client) then return 'gone' end
if #redis.call('XRANGE', dead, id, id) == 0 then return 'unknown' end
local number = string.format('%.0f', tonumber(redis.call('HGET', taken, 'tail') or 0) + 1)
redis.call('XADD', log, number .. '-0', 'b', ARGV[4])
redis.call('XDEL', dead, id)
redis.call('HINCRBY', taken, partition, 1)
-- A batch has 7 bytes around one event.
redis.call('HINCRBY', taken, 'b' .. partition, #ARGV[4] - 7)
redis.call('HINCRBY', taken, 'bytes', #ARGV[4] - 7)
redis.call('HSET', taken, 'tail', number)
return 'queued'
