#!lua flags=allow-oom
-- Notes that events are begun which may have been in hand when an owner of their partition died.
-- keys: owner (hash partition -> lease), begun (hash 'partition:number' -> epochs of the leases under which it was begun, each
--       followed by a space)
-- arguments: partition, its lease, numbers of the events
-- answers: nothing
-- invariant: only the holder of the lease notes anything, and an epoch stands once.
-- late copy: harmless. It notes what was noted; of an event that is committed by then, the next owner takes no notice.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
local epoch = string.match(ARGV[2], '^%d+') .. ' '
for i = 3, #ARGV do
  local field = ARGV[1] .. ':' .. ARGV[i]
  local epochs = redis.call('HGET', KEYS[2], field) or ''
  if not string.find(' ' .. epochs, ' ' .. epoch, 1, true) then redis.call('HSET', KEYS[2], field, epochs .. epoch) end
end
