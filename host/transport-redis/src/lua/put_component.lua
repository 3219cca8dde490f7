#!lua
-- Registers the upload of a component, returns its missing parts, and marks it as complete when there are none.
-- keys: components (zset digest -> time of the last upload in ms); the component (hash: index of a part, from 0 -> its digest; parts ->
--       their number; bytes -> size of the component, once it is complete); parts (hash digest -> part); part-uses (hash digest of a
--       part -> number of components that refer to it)
-- arguments: digest; size in bytes; digests of its parts
-- answers: digests of the missing parts; none when it is complete
-- invariant: a complete component has all its parts. Reference counts match the components.
-- late copy: harmless. It checks the parts again; for a deleted component it leaves an entry that the next pruning deletes.
-- cost: two calls for each part, and at most six more when the list of parts is written; a component of 32 MB has 128 parts.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local known = tonumber(redis.call('HGET', KEYS[2], 'parts')) or 0
local is_named = redis.call('HGET', KEYS[2], 'parts') == tostring(#ARGV - 2)
for n = 3, #ARGV do
  is_named = is_named and redis.call('HGET', KEYS[2], n - 3) == ARGV[n]
end
if not is_named then
  -- The component is new, or a node with another part size has uploaded it.
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
