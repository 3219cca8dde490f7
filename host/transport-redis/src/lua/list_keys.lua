#!lua flags=no-writes
-- Lists keys of a bucket with a prefix, one page at a time.
-- keys: bucket (hash key -> value); ends (zset of keys with a TTL -> expiry in ms)
-- arguments: cursor; prefix; approximate number of keys to scan; maximum bytes of the answered keys; bytes of values to load for a page
-- answers: {next cursor, keys}; {'too large'} when a single key exceeds the maximum
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: HSCAN loads the values as well, so the page is smaller when ten sampled values are large.
local bucket, ends = KEYS[1], KEYS[2]
local cursor, prefix, count, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local size = redis.call('HLEN', bucket)
if size == 0 then return {'0'} end
local large = 1
for _, key in ipairs(redis.call('HRANDFIELD', bucket, 10)) do
  large = math.max(large, redis.call('HSTRLEN', bucket, key))
end
count = math.max(1, math.min(count, math.floor(tonumber(ARGV[5]) / large)))
local now
if redis.call('ZCARD', ends) > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
while true do
  local page = redis.call('HSCAN', bucket, cursor, 'COUNT', count)
  local answer, bytes = {page[1]}, 0
  for i = 1, #page[2], 2 do
    local key = page[2][i]
    local ended = now and redis.call('ZSCORE', ends, bucket .. '\0' .. key)
    if string.sub(key, 1, #prefix) == prefix and not (ended and tonumber(ended) <= now) then
      table.insert(answer, key)
      bytes = bytes + #key
    end
  end
  if bytes <= most then return answer end
  if count == 1 then return {'too large'} end
  count = math.max(1, math.floor(count / 4))
end
