#!lua flags=no-writes
-- Reads values of a bucket: as many of the keys as fit into one answer, the first of them in any case.
-- keys: bucket (hash key -> value), ends (zset of keys that live for a time: when they are gone, in milliseconds), locks (hash 'key of
--       the bucket\0key' -> lock, see lock.lua); the last is left out where no lock can matter
-- arguments: bytes of an answer, bytes that may be read in all, keys
-- answers: how many keys are answered, or -1 when the next value has more bytes than may be read; names and locks of those that are
--          locked; and their values, nothing for none
-- invariant: nothing changes.
-- late copy: harmless, for it only reads.
-- cost: the size of each value is looked at before it is loaded
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
