-- Writes to buckets, with the size of each bucket: keys, values, and 64 bytes for each key.
-- sizes: hash; key of a bucket -> its bytes, key of a bucket .. '\0' -> bytes reserved in it (see lock_keys.lua)
local sets, deletes, growth = {}, {}, {}
-- The key 'timers', and the earliest due time of the timers that were set.
local timers_set, first_due

local function bytes_in_bucket(key, bytes) return #key + bytes + 64 end

local function reserved_field(bucket) return bucket .. '\0' end

-- Records in a bucket of timers are indexed by due time and by name: 'timers' (zset 'bucket\0name' -> due time in ms) and
-- 'timers:names' (zset 'name\0bucket', all scores 0). Returns the key of the first, or nil for other buckets.
local function timers_beside(bucket)
  if not string.find(bucket, ':kv:plugnode:timers:', 1, true) then return end
  return (string.gsub(bucket, ':kv:plugnode:timers:.*$', ':timers'))
end

local function put(bucket, key, value)
  local timers = timers_beside(bucket)
  if timers then
    local due = string.match(value, '^%d+')
    timers_set, first_due = timers, math.min(tonumber(due), first_due or math.huge)
    redis.call('ZADD', timers, due, bucket .. '\0' .. key)
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

-- Queues a write: 's' sets, 'd' deletes. The last write to a key wins.
local function take_write(bucket, how, key, value)
  sets[bucket], deletes[bucket] = sets[bucket] or {}, deletes[bucket] or {}
  sets[bucket][key] = how == 's' and value or nil
  deletes[bucket][key] = how == 'd' or nil
end

local function note_growth(sizes)
  for bucket, by in pairs(growth) do
    if by ~= 0 and redis.call('HINCRBY', sizes, bucket, string.format('%.0f', by)) == 0 then redis.call('HDEL', sizes, bucket) end
  end
end

-- Wakes the app-node that fires timers (see due_timers.lua), if one that was set is due before the others and within a second: it asks
-- for later ones in time by itself. No error ends the script, which has written before.
local function wake_timers()
  if not first_due or first_due > tonumber(redis.call('TIME')[1]) * 1000 + 1000 then return end
  local keeper = redis.pcall('GET', timers_set .. ':keeper')
  local next = tonumber(redis.call('ZRANGE', timers_set, 0, 0, 'WITHSCORES')[2])
  if type(keeper) == 'string' and next == first_due then
    local wake = string.gsub(timers_set, 'timers$', 'wake:') .. keeper
    redis.pcall('XADD', wake, 'NOMKSTREAM', 'MAXLEN', 64, '*', 'timers', '')
  end
end

-- Executes the queued writes. Deletes come last, because they may empty and so delete the bucket.
local function do_writes(sizes)
  for bucket, values in pairs(sets) do
    for key, value in pairs(values) do put(bucket, key, value) end
  end
  for bucket, keys in pairs(deletes) do
    for key in pairs(keys) do delete(bucket, key) end
  end
  note_growth(sizes)
  wake_timers()
end
