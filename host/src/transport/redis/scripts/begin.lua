#!lua flags=allow-oom
-- Notes that events are begun which may have been in hand when an owner of their partition died.
-- keys: owner (hash partition -> lease), begun (hash 'partition:number' -> how often it was begun)
-- arguments: partition, its lease, for each event: its number, how often it was begun with this time
-- answers: nothing
-- invariant: only the holder of the lease notes anything.
-- late copy: harmless. It notes what was noted; of an event that is committed by then, the next owner takes no notice.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]) end
