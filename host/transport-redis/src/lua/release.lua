#!lua flags=allow-oom
-- Gives a partition back.
-- keys: owner (hash partition -> lease)
-- arguments: partition, the lease as it was claimed
-- answers: nothing
-- invariant: the lease of another is left alone, and the epoch stays.
-- late copy: harmless. A lease that was given back or taken over is another by its epoch.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], string.match(ARGV[2], '^%d+:'))
end
