-- Notes how much of the broadcasts an io-node has read, and trims what all have read.
-- keys: io (hash name -> incarnation); out-all (stream), out-all-read (zset): see shared/outbox.lua
-- arguments: member; bytes of the broadcasts that it has read
-- answers: nothing
-- invariant: what an io-node has not read stays, until it leaves or is fenced.
-- late copy: harmless. The number of a member never falls, and a member that was forgotten does not return.
-- cost: four calls, and two for each io-node that is gone.
local io, all, readers = unpack(KEYS)
redis.call('ZADD', readers, 'XX', 'GT', ARGV[2], ARGV[1])
local member, read = slowest_reader(all, readers, io)
if member then trim_broadcasts(all, read) end
