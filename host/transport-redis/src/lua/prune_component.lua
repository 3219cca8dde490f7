#!lua flags=allow-oom
-- Forgets a component and the parts that no other names, unless it was put of late.
-- keys: components (zset digest -> when it was put last, in ms), the component (hash: number of a part -> digest of the part,
--       parts -> how many those are), parts (hash digest -> part), part uses (hash digest of a part -> how often components name it)
-- arguments: digest, for how many ms it is kept
-- answers: 1 when it is gone
-- invariant: whoever puts a component again has it for as long again. What another component names stays.
-- cost: one look for each part, of which a component of 32 MB has 128.
-- late copy: harmless. It looks again whether the component was put of late, and one that is gone names no parts.
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
