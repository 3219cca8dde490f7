-- Applies key-value writes that were committed in another shard.
-- keys: from (hash shard -> id of the last write applied); sizes (see sizes.lua); then the buckets
-- arguments: the other shard; then for each write, in order: its id there in two parts; index of its bucket in KEYS; 's' set or 'd'
--            delete; key; value
-- answers: nothing
-- invariant: each write is applied once, in the order of its commit.
-- late copy: harmless. Writes up to the last applied id are skipped.
-- cost: three calls, two for each bucket, and two to four for each write.
local from, sizes, shard = KEYS[1], KEYS[2], ARGV[1]
local last_ms, last_n = string.match(redis.call('HGET', from, shard) or '0-0', '^(%d+)-(%d+)$')
last_ms, last_n = tonumber(last_ms), tonumber(last_n)
redis.call('HLEN', sizes)
for i = 3, #KEYS do redis.call('EXISTS', KEYS[i]) end
for i = 2, #ARGV, 6 do
  local ms, n = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if ms > last_ms or (ms == last_ms and n > last_n) then
    last_ms, last_n = ms, n
    local key, how, field, value = KEYS[tonumber(ARGV[i + 2])], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    take_write(key, how, field, value)
  end
end
redis.call('HSET', from, shard, string.format('%.0f-%.0f', last_ms, last_n))
do_writes(sizes)
