#!lua
-- Settles what all nodes of a cluster must agree on, or tells what was settled before.
-- keys: meta (hash)
-- arguments: format, partitions, shards
-- answers: {format, partitions, shards} as they stand; none of them where the key is something else
-- invariant: written once, by the first node, and never changed.
-- late copy: harmless, for it writes once.
local fields = redis.pcall('HLEN', KEYS[1])
if type(fields) == 'table' then
  return string.find(fields.err, 'WRONGTYPE', 1, true) and {false, false, false} or fields
end
if fields == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'shards', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'format', 'partitions', 'shards')
