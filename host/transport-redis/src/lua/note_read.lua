-- Notes how much of the broadcasts an io-node has read. If no io-node has read less, trims up to there.
-- keys: io (hash name -> incarnation); out-all (stream), out-all-in (string), out-all-read (zset): see shared/outbox.lua
-- arguments: member; bytes of the broadcasts that it has read; the entry behind the last one that it has read
-- answers: 1 if they were trimmed; 0 if another io-node is behind, so that the member has to report again
-- invariant: what an io-node has not read stays, until it leaves or is fenced. No number is greater than that of the last broadcast, also
--            after a loss of the latest writes.
-- late copy: harmless. The number of a member never falls, a member that was forgotten does not return, and entries are trimmed that all
--            had read before.
-- cost: five calls, and two for each io-node that is gone.
local io, all, all_in, readers = unpack(KEYS)
local bytes = math.min(tonumber(ARGV[2]), tonumber(redis.call('GET', all_in) or 0))
redis.call('ZADD', readers, 'XX', 'GT', string.format('%.0f', bytes), ARGV[1])
local slowest, read = slowest_reader(readers, io)
if not slowest then return 1 end
if read < bytes then return 0 end
redis.call('XTRIM', all, 'MINID', ARGV[3])
return 1
