-- Records that the view of the cluster has changed: `app`, `owner` or `lost`. The next heartbeat of each node is answered with the
-- new view. Returns its version. No version is used twice, also not after a loss of the latest writes, because it has the time in it.
-- clock: hash; views -> number of changes, view -> version of the view
local function note_view(clock)
  local changes = redis.call('HINCRBY', clock, 'views', 1)
  local version = changes .. '.' .. table.concat(redis.call('TIME'), '.')
  redis.call('HSET', clock, 'view', version)
  return version
end
