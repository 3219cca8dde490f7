#!lua
-- Notes that a component is being put, says which of its parts are not there, and marks it as complete when all are.
-- keys: components (zset digest -> when it was put last, in ms), the component (hash: number of a part, from 0 -> digest of the
--       part; parts -> how many those are; bytes -> its size, once all parts are there), parts (hash digest -> part), part uses
--       (hash digest of a part -> how often components name it)
-- arguments: digest, its size in bytes, the digests of its parts
-- answers: the digests of parts that are not there; none when it is complete
-- invariant: what is marked as complete has all its parts. A part is used as often as the components that are there name it.
-- cost: two looks for each part, of which a component of 32 MB has 128.
-- late copy: harmless. It counts the parts when it comes; of one that was forgotten it leaves a name that is forgotten next.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local known = tonumber(redis.call('HGET', KEYS[2], 'parts')) or 0
local is_named = redis.call('HGET', KEYS[2], 'parts') == tostring(#ARGV - 2)
for n = 3, #ARGV do
  is_named = is_named and redis.call('HGET', KEYS[2], n - 3) == ARGV[n]
end
if not is_named then
  -- It is not there, or a node that cuts components otherwise has put it.
  for n = 0, known - 1 do
    local part = redis.call('HGET', KEYS[2], n)
    if part and redis.call('HINCRBY', KEYS[4], part, -1) <= 0 then
      redis.call('HDEL', KEYS[4], part)
      redis.call('HDEL', KEYS[3], part)
    end
  end
  redis.call('DEL', KEYS[2])
  for n = 3, #ARGV do
    redis.call('HSET', KEYS[2], n - 3, ARGV[n])
    redis.call('HINCRBY', KEYS[4], ARGV[n], 1)
  end
  redis.call('HSET', KEYS[2], 'parts', #ARGV - 2)
end
local missing = {}
for n = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[3], ARGV[n]) == 0 then missing[#missing + 1] = ARGV[n] end
end
if #missing > 0 then
  redis.call('HDEL', KEYS[2], 'bytes')
else
  redis.call('HSET', KEYS[2], 'bytes', ARGV[2])
end
return missing
