-- Writes to buckets, and how many bytes each holds: keys, values, and 64 for each key.
-- sizes: hash key of the bucket -> bytes, and 'key of the bucket\0' -> bytes that are reserved in it (see lock.lua)
local sets, deletes, growth = {}, {}, {}

local function bytes_in_bucket(key, bytes) return #key + bytes + 64 end

local function reserved_field(bucket) return bucket .. '\0' end

-- A record in a bucket of timers stands by when it is due, and by its name, beside the buckets: 'timers' (zset 'bucket\0name' -> when
-- it is due, in milliseconds), 'timers:names' (zset 'name\0bucket', in order).
local function timers_beside(bucket)
  if not string.find(bucket, ':kv:plugnode:timers:', 1, true) then return end
  return (string.gsub(bucket, ':kv:plugnode:timers:.*$', ':timers'))
end

local function put(bucket, key, value)
  local timers = timers_beside(bucket)
  if timers then
    redis.call('ZADD', timers, string.match(value, '^%d+'), bucket .. '\0' .. key)
    redis.call('ZADD', timers .. ':names', 0, key .. '\0' .. bucket)
  end
  local before = redis.call('HSTRLEN', bucket, key)
  local by = #value - before
  if redis.call('HSET', bucket, key, value) == 1 then by = bytes_in_bucket(key, #value) end
  growth[bucket] = (growth[bucket] or 0) + by
end

local function delete(bucket, key)
  local timers = timers_beside(bucket)
  if timers then
    redis.call('ZREM', timers, bucket .. '\0' .. key)
    redis.call('ZREM', timers .. ':names', key .. '\0' .. bucket)
  end
  local before = redis.call('HSTRLEN', bucket, key)
  if redis.call('HDEL', bucket, key) == 1 then growth[bucket] = (growth[bucket] or 0) - bytes_in_bucket(key, before) end
end

-- Takes a write, 's' to set or 'd' to delete. The last one to a key stands.
local function take_write(bucket, how, key, value)
  sets[bucket], deletes[bucket] = sets[bucket] or {}, deletes[bucket] or {}
  sets[bucket][key] = how == 's' and value or nil
  deletes[bucket][key] = how == 'd' or nil
end

local function note_growth(sizes)
  for bucket, by in pairs(growth) do
    if by ~= 0 then redis.call('HINCRBY', sizes, bucket, string.format('%.0f', by)) end
  end
end

-- Does what was taken. Deletes come at the end, for they may empty the bucket.
local function do_writes(sizes)
  for bucket, values in pairs(sets) do
    for key, value in pairs(values) do put(bucket, key, value) end
  end
  for bucket, keys in pairs(deletes) do
    for key in pairs(keys) do delete(bucket, key) end
  end
  note_growth(sizes)
end
