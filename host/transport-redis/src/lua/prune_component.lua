#!lua flags=allow-oom
-- Deletes a component, and the parts that no other component refers to, unless it was uploaded recently.
-- keys: components (zset digest -> time of the last upload in ms); the component (hash: index of a part -> its digest; parts -> their
--       number); parts (hash digest -> part); part-uses (hash digest of a part -> number of components that refer to it)
-- arguments: digest; retention in ms
-- answers: 1 when it is deleted
-- invariant: an upload starts the retention anew. Parts of other components stay.
-- late copy: harmless. It checks the retention again, and a deleted component has no parts.
-- cost: two to four calls for each part; a component of 32 MB has 128.
local put = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if put and now - put < tonumber(ARGV[2]) then return 0 end
for n = 0, (tonumber(redis.call('HGET', KEYS[2], 'parts')) or 0) - 1 do
  local part = redis.call('HGET', KEYS[2], n)
  if part and redis.call('HINCRBY', KEYS[4], part, -1) <= 0 then
    redis.call('HDEL', KEYS[4], part)
    redis.call('HDEL', KEYS[3], part)
  end
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
