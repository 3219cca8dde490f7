-- Removes an io-node. Its clients are disconnected by disconnect_lost.lua.
-- keys: io (hash name -> incarnation); io:until (zset name -> deadline); lost (set of members); clock (hash, see
--       shared/view.lua)
-- arguments: name; incarnation
-- answers: nothing
-- invariant: a later incarnation of the name stays.
-- late copy: harmless, because an incarnation that has left never returns.
-- cost: seven calls.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
redis.call('SADD', KEYS[3], ARGV[2] .. '@' .. ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
note_view(KEYS[4])
