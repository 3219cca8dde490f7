#!lua
-- Puts a command of one io-node into the outbox of another.
-- keys: io (hash name -> incarnation)
-- arguments: what outbox keys begin with, most entries in an outbox, name, commands
-- answers: nothing
-- invariant: nothing is made for an io-node that is gone, whose outbox is there no more.
local incarnation = redis.call('HGET', KEYS[1], ARGV[3])
if not incarnation then return end
local outbox = ARGV[1] .. incarnation .. '@' .. ARGV[3]
if redis.call('XLEN', outbox) >= tonumber(ARGV[2]) then return end
redis.call('XADD', outbox, '*', 'c', ARGV[4])
