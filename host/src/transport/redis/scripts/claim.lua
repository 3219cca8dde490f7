#!lua flags=allow-oom
-- Leases partitions that nobody holds to an app-node.
-- keys: app (hash name -> incarnation), owner (hash partition -> lease, which is 'epoch:' or 'epoch:incarnation@name'),
--       done (hash partition -> what of it is committed), over (hash client -> partition), kept (hash 'partition:number'
--       -> event); then, for each partition in question, patches (hash 'client\0number' -> patch)
-- arguments: name, incarnation, partitions
-- answers: {partition, lease, what of it is committed, ...} for those that the node holds now;
--          {client, partition, ...} of refused clients whose disconnects are in the log;
--          {'partition:number', event, ...} of open events that are not in the log any more;
--          {patch, ...} of attributes, of the partitions that the node holds now
-- invariant: every lease of a partition has an epoch of its own, and later ones a greater.
local me = ARGV[2] .. '@' .. ARGV[1]
local held, patches = {}, {}
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
      lease = string.format('%d:%s', epoch + 1, me)
      redis.call('HSET', KEYS[2], partition, lease)
    end
  end
  if lease then
    table.insert(held, partition)
    table.insert(held, lease)
    table.insert(held, redis.call('HGET', KEYS[3], partition) or '0 0 0')
    for _, patch in ipairs(redis.call('HVALS', KEYS[i + 3])) do table.insert(patches, patch) end
  end
end
return {held, redis.call('HGETALL', KEYS[4]), redis.call('HGETALL', KEYS[5]), patches}
