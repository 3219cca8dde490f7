#!lua
-- Settles format and layout of the cluster, or reads what the first node has settled.
-- keys: meta (hash)
-- arguments: format; number of partitions; number of shards
-- answers: {format, partitions, shards} as settled; nothing for each if the key has another type
-- invariant: written once, by the first node, and never changed.
-- late copy: harmless, because it writes once.
-- cost: three calls.
local fields = redis.pcall('HLEN', KEYS[1])
if type(fields) == 'table' then
  return string.find(fields.err, 'WRONGTYPE', 1, true) and {false, false, false} or fields
end
if fields == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'shards', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'format', 'partitions', 'shards')
