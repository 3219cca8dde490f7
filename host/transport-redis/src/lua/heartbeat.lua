-- Heartbeat: renews a node's lease, removes nodes whose lease has expired, and returns the view of the cluster if it has changed.
-- keys: io (hash name -> incarnation); io:until (zset name -> deadline); lost (set of members); app (hash name -> incarnation, with
--       '-' behind it while leaving); app:until (zset name -> deadline); owner (hash partition -> lease); clock (hash; see
--       shared/clock.lua and shared/view.lua; data -> data id; left, see
--       leave_app.lua); in (hash, see ingest.lua); for an io-node also its live set (the empty
--       field holds the number of its last ingest call)
-- arguments: role ('io', 'join' for a new app-node, 'app', or 'leaving'); name; incarnation; lease in ms; a random data id; for a new
--            node the earlier incarnations of the same process, with a space before and behind each; version of the view that the node
--            has, empty for none; the wake-up stream of an app-node, and its TTL in seconds
-- answers: {status; {data id, number of events ever accepted, number of the io-node's last ingest call}; {incarnation that holds the
--          name, its deadline, ms until then}; version of the view; nothing if the node has that version, else {lost members; `app` as
--          pairs; `owner` as pairs; `left`}}
--          status: 1 alive; 0 fenced; 2 not joined, because another node holds the name
-- invariant: no lease expires because Redis was away or its clock was set. The data id of a shard lives as long as its data. Every
--            change of `app`, `owner` and `lost` changes the version of the view. A living app-node has a wake-up stream (see
--            shared/log.lua).
-- late copy: harmless. It renews an io-node only while its incarnation is a member. It may re-add an app-node that has left or
--            died, for one lease: that claims nothing and expires. It is refused if another node holds the name.
-- cost: ten calls; seven more for a changed view, and four for each expired node.
local what, name, incarnation, lease, data_id, replaces, has, wake, kept = unpack(ARGV)
lease = tonumber(lease)
local io, io_until, lost, app, app_until, owner, clock, taken, live = unpack(KEYS)
local now, grace = shard_time(clock, lease)
local stored, version = unpack(redis.call('HMGET', clock, 'data', 'view'))
if not stored then redis.call('HSET', clock, 'data', data_id) end
local data = {
  stored or data_id,
  tonumber(redis.call('HGET', taken, 'tail') or 0),
  tonumber(string.match(live and redis.call('HGET', live, '') or '', '^%d+') or 0),
}
local nobody = {'', '', 0}
local known = redis.call('HGET', what == 'io' and io or app, name)
local is_same = known == incarnation or known == incarnation .. '-'
if what == 'io' then
  if known ~= incarnation then return {0, data, nobody, '', false} end
elseif what == 'join' then
  if known and not is_same and not string.find(replaces, ' ' .. string.gsub(known, '-$', '') .. ' ', 1, true) then
    local deadline = redis.call('ZSCORE', app_until, name) or '0'
    local left = math.max(tonumber(deadline), grace) - now
    if left >= 0 then return {2, data, {known, deadline, math.floor(left)}, '', false} end
  end
elseif known and not is_same then
  -- An app-node that expired and was not replaced may return. The leases say who holds its partitions by now.
  return {0, data, nobody, '', false}
end

local is_changed = false
if what == 'io' then
  redis.call('ZADD', io_until, now + lease, name)
else
  redis.call('ZADD', app_until, now + lease, name)
  local present = what == 'leaving' and incarnation .. '-' or incarnation
  if known ~= present then
    redis.call('HSET', app, name, present)
    is_changed = true
  end
  -- Every four seconds, at about two heartbeats of an idle cluster: it is kept for much longer.
  if (is_changed or now % 4000 < lease / 5) and redis.pcall('EXPIRE', wake, kept) == 0 then
    redis.pcall('XADD', wake, '*', '', '')
    redis.pcall('EXPIRE', wake, kept)
  end
end
if now >= grace then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', io_until, '-inf', '(' .. now)) do
    local was = redis.call('HGET', io, gone)
    if was then
      redis.call('SADD', lost, was .. '@' .. gone)
      redis.call('HDEL', io, gone)
      is_changed = true
    end
    redis.call('ZREM', io_until, gone)
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', app_until, '-inf', '(' .. now)) do
    redis.call('HDEL', app, gone)
    redis.call('ZREM', app_until, gone)
    is_changed = true
  end
end
version = is_changed and note_view(clock) or version or '0'
local view = version ~= has and {
  redis.call('SMEMBERS', lost),
  redis.call('HGETALL', app),
  redis.call('HGETALL', owner),
  redis.call('HGET', clock, 'left') or '',
}
return {1, data, nobody, version, view}
