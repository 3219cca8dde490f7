#!lua
-- Settles what all nodes of a cluster must agree on, or tells what was settled before.
-- keys: meta (hash)
-- arguments: format, partitions, shards
-- answers: {format, partitions, shards} as they stand
-- invariant: written once, by the first node, and never changed.
if redis.call('HLEN', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'partitions', ARGV[2], 'shards', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'format', 'partitions', 'shards')
