#!lua flags=allow-oom
-- Takes an io-node out; what is left of it is to be buried.
-- keys: io (hash name -> incarnation), io:until (zset), lost (set of members)
-- arguments: name, incarnation
-- answers: nothing
-- invariant: a later incarnation of that name is left alone.
-- late copy: harmless, for an incarnation does not come back once it has left.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
redis.call('SADD', KEYS[3], ARGV[2] .. '@' .. ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
