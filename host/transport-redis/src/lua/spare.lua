#!lua flags=allow-oom
-- Takes back that events were begun under a lease: its holder lost it and lives, so it was not one of these that ended it.
-- keys: begun (hash 'partition:number' -> epochs, see begin.lua)
-- arguments: partition, the lease, numbers of the events
-- answers: nothing
-- invariant: what was noted under other leases stays.
-- late copy: harmless. An epoch is of one lease, and is noted under it alone.
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
