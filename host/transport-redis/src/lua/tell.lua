#!lua
-- Puts a command of one io-node into the outbox of another.
-- keys: io (hash name -> incarnation)
-- arguments: what keys begin with of outboxes, of the bytes put into them and of the bytes read of them; most entries in an
--            outbox, most bytes; name, commands
-- answers: nothing
-- invariant: nothing is made for an io-node that is gone, whose outbox is there no more.
-- late copy: what is told may come twice, and late; it binds nobody.
local incarnation = redis.call('HGET', KEYS[1], ARGV[6])
if not incarnation then return end
local member = incarnation .. '@' .. ARGV[6]
local outbox, bytes_in = ARGV[1] .. member, ARGV[2] .. member
if redis.call('XLEN', outbox) >= tonumber(ARGV[4]) then return end
local bytes = redis.call('MGET', bytes_in, ARGV[3] .. member)
if (bytes[1] or 0) - (bytes[2] or 0) >= tonumber(ARGV[5]) then return end
redis.call('XADD', outbox, '*', 'c', ARGV[7])
redis.call('INCRBY', bytes_in, #ARGV[7])
