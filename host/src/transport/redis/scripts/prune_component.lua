#!lua flags=allow-oom
-- Forgets a component, unless it was put of late.
-- keys: components (zset digest -> when it was put last, in ms), the component (hash)
-- arguments: digest, for how many ms it is kept
-- answers: 1 when it is gone
-- invariant: whoever puts a component again has it for as long again.
-- late copy: harmless. It looks again whether the component was put of late.
local put = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if put and now - put < tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
