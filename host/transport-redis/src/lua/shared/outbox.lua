-- Outboxes of io-nodes. Each reads two streams: its own, and the broadcasts, which are written once for all.
-- out:MEMBER: stream; an entry has runs of commands ('c' and the number of the run in its call), reports of commits ('s'), and 'a': the
--             bytes ever written to out-all before the call, and, if the call also broadcasts, a space and the bytes after it
-- out-all: stream; an entry has runs of commands for all io-nodes, and 'b': the bytes ever written to out-all, with this entry
-- out-all-in: string; that number for the last entry
-- out-all-read: zset; member -> bytes of out-all that it has read, as it reported last
-- order: an io-node applies its own entry after the broadcasts up to 'a', and the runs of one call by their numbers. Scripts write to
--        out:MEMBER before out-all, so a broadcast is never seen before what was sent earlier.

-- The io-node that is furthest behind with the broadcasts, and the bytes that it has read; nothing without io-nodes. Forgets those
-- that are gone.
local function slowest_reader(readers, io)
  while true do
    local member, read = unpack(redis.call('ZRANGE', readers, 0, 0, 'WITHSCORES'))
    if not member then return end
    local incarnation, name = string.match(member, '^([^@]*)@(.*)$')
    if incarnation and redis.call('HGET', io, name) == incarnation then return member, tonumber(read) end
    redis.call('ZREM', readers, member)
  end
end
