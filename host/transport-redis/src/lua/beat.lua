-- A sign of life: renews a node's lease, takes out those whose lease has run out, and tells who is there.
-- keys: io (hash name -> incarnation), io:until (zset name -> deadline), lost (set of members),
--       app (hash name -> incarnation, with '-' behind it when leaving), app:until (zset), owner (hash partition -> lease),
--       clock (hash), in (hash partition -> events taken in so far, 'tail' -> number of the last event), and of an io-node:
--       live of the member (hash client -> last will; the empty field keeps the number of the last call that was taken)
-- arguments: what ('io', 'join', 'app' or 'leaving': an app-node that is new, at work, or finishing), name, incarnation,
--            lease in ms, a random data id, for one that is new the earlier incarnations of the same process with a space
--            before and behind each
-- answers: {1, or 0 when the node itself was fenced, or 2 when one that is new is not in, for another has its name; lost
--          members; app as pairs; owner as pairs; {data id, number of the last event, number of the io-node's last call};
--          {the incarnation that has the name, its deadline, ms until its lease has run out}}
-- invariant: nobody's lease runs out because Redis was away or its clock was set. A shard has one data id for as long as it
--            keeps its data.
-- late copy: harmless. One of an io-node renews the lease of an incarnation that is still in. One of an app-node that has
--            left or died may put it in again, for one lease: it claims nothing, and is taken out as the dead are; where
--            another has its name, it is refused.
local what, name, incarnation, lease, data_id, replaces = unpack(ARGV)
lease = tonumber(lease)
local io, io_until, lost, app, app_until, owner, clock, taken, live = unpack(KEYS)
local now, grace = shard_time(clock, lease)
redis.call('HSETNX', clock, 'data', data_id)
local data = {
  redis.call('HGET', clock, 'data'),
  tonumber(redis.call('HGET', taken, 'tail') or 0),
  tonumber(string.match(live and redis.call('HGET', live, '') or '', '^%d+') or 0),
}
local nobody = {'', '', 0}
local known = redis.call('HGET', what == 'io' and io or app, name)
local is_same = known == incarnation or known == incarnation .. '-'
if what == 'io' then
  if known ~= incarnation then return {0, {}, {}, {}, data, nobody} end
elseif what == 'join' then
  if known and not is_same and not string.find(replaces, ' ' .. string.gsub(known, '-$', '') .. ' ', 1, true) then
    local deadline = redis.call('ZSCORE', app_until, name) or '0'
    local left = math.max(tonumber(deadline), grace) - now
    if left >= 0 then return {2, {}, {}, {}, data, {known, deadline, math.floor(left)}} end
  end
elseif known and not is_same then
  -- One that was taken out and not replaced may come back; who has its partitions now is said by their leases.
  return {0, {}, {}, {}, data, nobody}
end

if what == 'io' then
  redis.call('ZADD', io_until, now + lease, name)
else
  redis.call('ZADD', app_until, now + lease, name)
  redis.call('HSET', app, name, what == 'leaving' and incarnation .. '-' or incarnation)
end
if now >= grace then
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', io_until, '-inf', '(' .. now)) do
    local was = redis.call('HGET', io, gone)
    if was then
      redis.call('SADD', lost, was .. '@' .. gone)
      redis.call('HDEL', io, gone)
    end
    redis.call('ZREM', io_until, gone)
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', app_until, '-inf', '(' .. now)) do
    redis.call('HDEL', app, gone)
    redis.call('ZREM', app_until, gone)
  end
end
return {1, redis.call('SMEMBERS', lost), redis.call('HGETALL', app), redis.call('HGETALL', owner), data, nobody}
