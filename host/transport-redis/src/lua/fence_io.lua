#!lua flags=allow-oom
-- Takes out an io-node that does not read its outbox, so that commits go on; what is left of it is to be buried.
-- keys: io (hash name -> incarnation), io:until (zset), lost (set of members), outbox of the member (stream), bytes put into that outbox and
--       bytes read of it (strings)
-- arguments: name, incarnation, most entries in an outbox, most bytes
-- answers: 1 when it was taken out
-- invariant: one whose outbox has room again stays.
-- late copy: harmless. It looks again whether the outbox is full.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local bytes = redis.call('MGET', KEYS[5], KEYS[6])
local unread = (bytes[1] or 0) - (bytes[2] or 0)
if redis.call('XLEN', KEYS[4]) < tonumber(ARGV[3]) and unread < tonumber(ARGV[4]) then return 0 end
redis.call('SADD', KEYS[3], ARGV[2] .. '@' .. ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
