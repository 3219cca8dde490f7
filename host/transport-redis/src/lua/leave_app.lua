#!lua flags=allow-oom
-- Takes an app-node out; what it still holds is free for others.
-- keys: app (hash name -> incarnation), app:until (zset)
-- arguments: name, incarnation
-- answers: nothing
-- invariant: a later incarnation of that name is left alone.
-- late copy: harmless. It takes out an incarnation that has left, should a late sign of life have put it in again.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known == ARGV[2] or known == ARGV[2] .. '-' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[1], ARGV[1])
end
