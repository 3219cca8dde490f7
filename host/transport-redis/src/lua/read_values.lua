#!lua flags=no-writes
-- Reads values of a bucket: as many keys as fit into one answer, and the first one in any case.
-- keys: bucket (hash key -> value); ends (zset of keys with a TTL -> expiry in ms); optionally locks (hash 'bucket\0key' -> lock, see
--       lock_keys.lua), left out where locks do not matter
-- arguments: maximum bytes of an answer; bytes that may be read in total; keys
-- answers: {number of keys read, or -1 when the next value exceeds the total; names and locks of the locked ones; then the values,
--          nothing for a missing one}
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: at most four calls for each key. The size of a value is checked before it is loaded.
local bucket, ends, locks = unpack(KEYS)
local answer, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local now
if redis.call('ZCARD', ends) > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local held, has_locks = {}, locks and redis.call('HLEN', locks) > 0
local values, bytes = {0, held}, 0
for i = 3, #ARGV do
  local key = ARGV[i]
  local size = redis.call('HSTRLEN', bucket, key)
  if bytes + size > answer and i > 3 then break end
  if bytes + size > most then
    if i == 3 then values[1] = -1 end
    break
  end
  bytes = bytes + size
  local value = redis.call('HGET', bucket, key)
  if now and value then
    local ended = redis.call('ZSCORE', ends, bucket .. '\0' .. key)
    if ended and tonumber(ended) <= now then value = false end
  end
  local name = has_locks and bucket .. '\0' .. key
  local lock = name and redis.call('HGET', locks, name)
  if lock then
    table.insert(held, name)
    table.insert(held, lock)
  end
  values[1] = i - 2
  values[i] = value
end
return values
