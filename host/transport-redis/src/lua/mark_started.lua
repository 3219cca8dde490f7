#!lua flags=allow-oom
-- Marks events as started that may have been in flight when an owner of their partition died (poison suspects).
-- keys: owner (hash partition -> lease); begun (hash 'partition:number' -> epochs of the leases under which the event was started,
--       each followed by a space)
-- arguments: partition; its lease; numbers of the events
-- answers: nothing
-- invariant: only the holder of the lease marks, and once for each epoch.
-- late copy: harmless. It repeats existing marks. The next owner ignores a mark of a committed event.
-- cost: one call, and two for each event.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
local epoch = string.match(ARGV[2], '^%d+') .. ' '
for i = 3, #ARGV do
  local field = ARGV[1] .. ':' .. ARGV[i]
  local epochs = redis.call('HGET', KEYS[2], field) or ''
  if not string.find(' ' .. epochs, ' ' .. epoch, 1, true) then redis.call('HSET', KEYS[2], field, epochs .. epoch) end
end
