#!lua
-- Notes that a component is being put, and marks it as complete when all of it is there.
-- keys: components (zset digest -> when it was put last, in ms), the component (hash: number of a part, from 0 -> part;
--       bytes -> its size, once all parts are there)
-- arguments: digest, its size in bytes, number of its parts
-- answers: 1 when all of it is there
-- invariant: what is marked as complete has all its parts.
-- late copy: harmless. It counts the parts when it comes; of one that was forgotten it leaves a name that is forgotten next.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local marked, parts = redis.call('HEXISTS', KEYS[2], 'bytes'), redis.call('HLEN', KEYS[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
if parts - marked ~= tonumber(ARGV[3]) then
  redis.call('HDEL', KEYS[2], 'bytes')
  return 0
end
redis.call('HSET', KEYS[2], 'bytes', ARGV[2])
return 1
