#!lua flags=allow-oom
-- Removes the marks that events were started under a lease. Its holder lost the lease and lives, so none of the events was fatal.
-- keys: begun (hash 'partition:number' -> lease epochs, see mark_started.lua)
-- arguments: partition; the lease; numbers of the events
-- answers: nothing
-- invariant: marks of other leases stay.
-- late copy: harmless. An epoch belongs to one lease, and only that lease's marks are removed.
-- cost: two calls for each event.
local epoch = string.match(ARGV[2], '^%d+') .. ' '
for i = 3, #ARGV do
  local field = ARGV[1] .. ':' .. ARGV[i]
  local epochs = ' ' .. (redis.call('HGET', KEYS[1], field) or '')
  local first, last = string.find(epochs, ' ' .. epoch, 1, true)
  if first then
    local left = string.sub(epochs, 2, first) .. string.sub(epochs, last + 1)
    if left == '' then redis.call('HDEL', KEYS[1], field) else redis.call('HSET', KEYS[1], field, left) end
  end
end
