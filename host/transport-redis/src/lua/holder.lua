#!lua flags=no-writes
-- Tells what is known of an event that has locked keys in another shard.
-- keys: owner (hash partition -> lease), done (hash partition -> what of it is committed), kept (hash 'partition:number' ->
--       event)
-- arguments: partition, number
-- answers: the lease of the partition, what of it is committed, and whether the event is kept aside
-- invariant: nothing changes.
-- late copy: harmless, for it only reads.
return {
  redis.call('HGET', KEYS[1], ARGV[1]) or '',
  redis.call('HGET', KEYS[2], ARGV[1]) or '0 0',
  redis.call('HEXISTS', KEYS[3], ARGV[1] .. ':' .. ARGV[2]),
}
