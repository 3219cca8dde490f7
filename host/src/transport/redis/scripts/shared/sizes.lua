-- Writes to buckets, and how many bytes each holds: keys, values, and 64 for each key.
-- sizes: hash key of the bucket -> bytes
local growth = {}

local function put(bucket, key, value)
  local before = redis.call('HSTRLEN', bucket, key)
  local by = #value - before
  if redis.call('HSET', bucket, key, value) == 1 then by = by + #key + 64 end
  growth[bucket] = (growth[bucket] or 0) + by
end

local function delete(bucket, key)
  local before = redis.call('HSTRLEN', bucket, key)
  if redis.call('HDEL', bucket, key) == 1 then growth[bucket] = (growth[bucket] or 0) - before - #key - 64 end
end

local function note_growth(sizes)
  for bucket, by in pairs(growth) do
    if by ~= 0 then redis.call('HINCRBY', sizes, bucket, string.format('%.0f', by)) end
  end
end
