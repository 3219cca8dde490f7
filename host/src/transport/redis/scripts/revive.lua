#!lua
-- Puts a dead letter's event at the end of its log again.
-- keys: dead (stream), log (stream), tail (hash partition -> number of its last event), open (hash client -> events not
--       committed), who (hash client -> io-node)
-- arguments: id of the dead letter, partition, client (may be empty), the event
-- answers: 'queued', 'unknown' or 'gone'
-- invariant: a client has no event after its disconnect, and a dead letter is revived once.
local dead, log, tail, open, who = unpack(KEYS)
local id, partition, client = ARGV[1], ARGV[2], ARGV[3]
if client ~= '' and not redis.call('HGET', who, client) then return 'gone' end
if #redis.call('XRANGE', dead, id, id) == 0 then return 'unknown' end
local number = string.format('%.0f', tonumber(redis.call('HGET', tail, partition) or 0) + 1)
redis.call('HLEN', open)
redis.call('XADD', log, number .. '-0', 'e', ARGV[4])
redis.call('XDEL', dead, id)
redis.call('HSET', tail, partition, number)
if client ~= '' then redis.call('HINCRBY', open, client, 1) end
return 'queued'
