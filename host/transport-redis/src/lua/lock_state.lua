#!lua flags=no-writes
-- Reads the state of an event that has locked keys in another shard.
-- keys: owner (hash partition -> lease); done (hash partition -> progress); kept (hash 'partition:number' -> event that is set
--       aside)
-- arguments: partition; number of the event
-- answers: {lease of the partition, its progress, 1 if the event is set aside}
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: three calls.
return {
  redis.call('HGET', KEYS[1], ARGV[1]) or '',
  redis.call('HGET', KEYS[2], ARGV[1]) or '0 0',
  redis.call('HEXISTS', KEYS[3], ARGV[1] .. ':' .. ARGV[2]),
}
