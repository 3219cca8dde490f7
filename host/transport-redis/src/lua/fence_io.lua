-- Fences an io-node that does not read its outbox, so that commits continue. Its clients are disconnected by disconnect_lost.lua.
-- keys: io (hash name -> incarnation); io:until (zset name -> deadline); lost (set of members); outbox of the member (stream); bytes
--       added to it; bytes read of it; clock (hash, see shared/view.lua)
-- arguments: name; incarnation; maximum entries of an outbox; maximum bytes
-- answers: 1 when it was fenced
-- invariant: an io-node whose outbox has room again stays.
-- late copy: harmless. It checks the outbox again.
-- cost: nine calls.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local bytes = redis.call('MGET', KEYS[5], KEYS[6])
local unread = (bytes[1] or 0) - (bytes[2] or 0)
if redis.call('XLEN', KEYS[4]) < tonumber(ARGV[3]) and unread < tonumber(ARGV[4]) then return 0 end
redis.call('SADD', KEYS[3], ARGV[2] .. '@' .. ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
note_view(KEYS[7])
return 1
