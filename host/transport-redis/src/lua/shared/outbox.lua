-- Outboxes of io-nodes. Each reads two streams: its own, and the broadcasts, which are written once for all.
-- out:MEMBER: stream; an entry has runs of commands ('c' and the number of the run in its call), reports of commits ('s'), and 'a': the
--             bytes ever written to out-all before its call, and behind a space those after it if the call has broadcasts
-- out-all: stream; an entry has runs of commands for all io-nodes. Its id is the number of bytes ever written there, with this entry
-- out-all-in: string; that number for the last entry
-- out-all-read: zset; member -> bytes of out-all that it has read, as it reported last
-- order: an io-node applies its own entry after the broadcasts up to 'a', and the runs of one call by their numbers. Scripts write to
--        out:MEMBER before out-all, so a broadcast is never seen before what was sent earlier.

-- Trims from the broadcasts what all io-nodes have read.
local function trim_broadcasts(all, read)
  redis.call('XTRIM', all, 'MINID', string.format('%.0f-0', read + 1))
end

-- The io-node that is furthest behind with the broadcasts, and the bytes that it has read; nothing without io-nodes. Forgets those
-- that are gone.
local function slowest_reader(all, readers, io)
  local has_forgotten = false
  while true do
    local member, read = unpack(redis.call('ZRANGE', readers, 0, 0, 'WITHSCORES'))
    if not member then return end
    local incarnation, name = string.match(member, '^([^@]*)@(.*)$')
    if incarnation and redis.call('HGET', io, name) == incarnation then
      if has_forgotten then trim_broadcasts(all, tonumber(read)) end
      return member, tonumber(read)
    end
    redis.call('ZREM', readers, member)
    has_forgotten = true
  end
end

-- Appends a broadcast, and returns the bytes written with it. Foreign entries with greater ids are dropped.
local function add_broadcast(all, before, runs, first, last)
  local after = before
  for at = first + 1, last, 2 do after = after + #runs[at] end
  local id = string.format('%.0f-0', after)
  local added = redis.pcall('XADD', all, id, unpack(runs, first, last))
  if type(added) == 'table' and added.err then
    local ours = redis.call('XRANGE', all, '-', string.format('%.0f-0', before))
    redis.call('DEL', all)
    for _, entry in ipairs(ours) do redis.call('XADD', all, entry[1], unpack(entry[2])) end
    redis.call('XADD', all, id, unpack(runs, first, last))
  end
  return after
end
