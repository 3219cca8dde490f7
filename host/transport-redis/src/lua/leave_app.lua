-- Removes an app-node. Its partitions are free for others.
-- keys: app (hash name -> incarnation); app:until (zset name -> deadline); clock (hash, see shared/view.lua; left ->
--       incarnations of the latest app-nodes that have left, with a space before and behind each)
-- arguments: name; incarnation
-- answers: nothing
-- invariant: a later incarnation of the name stays.
-- late copy: harmless. It removes an incarnation that has left, in case a late heartbeat has added it again.
-- cost: eight calls.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known == ARGV[2] or known == ARGV[2] .. '-' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[1], ARGV[1])
  local left = redis.call('HGET', KEYS[3], 'left') or ''
  redis.call('HSET', KEYS[3], 'left', string.sub(' ' .. ARGV[2] .. ' ' .. left, 1, 2000))
  note_view(KEYS[3])
end
