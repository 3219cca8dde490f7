#!lua
-- Sends commands of one io-node to another, best effort.
-- keys: io (hash name -> incarnation); out-all-in (string, see shared/outbox.lua)
-- arguments: key prefixes of outboxes, of their bytes added and of their bytes read; maximum entries of an outbox; maximum bytes;
--            name of the recipient; commands
-- answers: nothing
-- invariant: nothing is created for an io-node that is gone. A full outbox receives nothing.
-- late copy: delivers the commands again. Only commands for which that is harmless are sent this way.
-- cost: six calls.
local incarnation = redis.call('HGET', KEYS[1], ARGV[6])
if not incarnation then return end
local member = incarnation .. '@' .. ARGV[6]
local outbox, bytes_in = ARGV[1] .. member, ARGV[2] .. member
if redis.call('XLEN', outbox) >= tonumber(ARGV[4]) then return end
local bytes = redis.call('MGET', bytes_in, ARGV[3] .. member)
if (bytes[1] or 0) - (bytes[2] or 0) >= tonumber(ARGV[5]) then return end
redis.call('XADD', outbox, '*', 'a', redis.call('GET', KEYS[2]) or 0, 'c0', ARGV[7])
redis.call('INCRBY', bytes_in, #ARGV[7])
