-- Leases free partitions to an app-node.
-- keys: app (hash name -> incarnation); owner (hash partition -> lease: 'epoch:' when free, or 'epoch:incarnation@name'); done (hash
--       partition -> progress); over (hash refused client -> partition); kept (hash 'partition:number' -> event that is set aside);
--       begun (hash 'partition:number' -> lease epochs, see mark_started.lua; 'partition:' -> number up to which events may have been
--       in flight when an owner died); in (hash, see ingest.lua); clock (hash, see shared/view.lua); then for each wanted partition
--       its log (see shared/log.lua) and its patches (hash 'client\0number' -> patch)
-- arguments: name; incarnation; wanted partitions
-- answers: for the partitions that the node holds now: {{partition, lease, progress, ...}; {refused client whose disconnect is in the
--          log, partition, ...}; {'partition:number' of events that are set aside, ...}; {field, value, ...} of `begun`;
--          {attribute patch, ...}}
-- invariant: every lease of a partition has a greater epoch than the one before. Events that are accepted later are hinted to the new
--            holder, and the log of a held partition exists, perhaps as an empty stream.
-- late copy: harmless. It claims only partitions without a living holder. A living node gives back what it does not know; the
--            lease of a dead one is taken over.
-- cost: at most twelve calls for each partition, three if any was free, and all fields of `over`, `kept` and `begun`.
local me = ARGV[2] .. '@' .. ARGV[1]
local held, is_held, patches, is_changed = {}, {}, {}, false
for i = 3, #ARGV do
  local partition = ARGV[i]
  local lease = redis.call('HGET', KEYS[2], partition) or '0:'
  local epoch, member = string.match(lease, '^(%d+):(.*)$')
  if member ~= me then
    local incarnation, name = string.match(member, '^([^@]*)@(.*)$')
    local known = name and redis.call('HGET', KEYS[1], name)
    if known and (known == incarnation or known == incarnation .. '-') then
      lease = nil
    else
      local committed = tonumber(string.match(redis.call('HGET', KEYS[3], partition) or '0', '^%d+'))
      if name and tonumber(redis.call('HGET', KEYS[7], partition) or 0) > committed then
        redis.call('HSET', KEYS[6], partition .. ':', redis.call('HGET', KEYS[7], partition))
      end
      lease = string.format('%d:%s', epoch + 1, me)
      redis.call('HSET', KEYS[2], partition, lease)
      is_changed = true
    end
  end
  if lease then
    is_held[partition] = true
    local log = KEYS[2 * i + 3]
    if redis.call('EXISTS', log) == 0 then redis.call('XDEL', log, redis.call('XADD', log, '0-1', 'b', '')) end
    table.insert(held, partition)
    table.insert(held, lease)
    table.insert(held, redis.call('HGET', KEYS[3], partition) or '0 0 0')
    for _, patch in ipairs(redis.call('HVALS', KEYS[2 * i + 4])) do table.insert(patches, patch) end
  end
end
if is_changed then note_view(KEYS[8]) end
local over, kept, begun = {}, {}, {}
if #held > 0 then
  local all = redis.call('HGETALL', KEYS[4])
  for i = 1, #all, 2 do
    if is_held[all[i + 1]] then
      table.insert(over, all[i])
      table.insert(over, all[i + 1])
    end
  end
  for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
    if is_held[string.match(field, '^%d+')] then table.insert(kept, field) end
  end
  local noted = redis.call('HGETALL', KEYS[6])
  for i = 1, #noted, 2 do
    if is_held[string.match(noted[i], '^%d+')] then
      table.insert(begun, noted[i])
      table.insert(begun, noted[i + 1])
    end
  end
end
return {held, over, kept, begun, patches}
