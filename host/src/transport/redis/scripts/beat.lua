#!lua flags=allow-oom
-- A sign of life: renews a node's lease, takes out those whose lease has run out, and tells who is there.
-- keys: io (hash name -> incarnation), io:until (zset name -> deadline), lost (set of members),
--       app (hash name -> incarnation, with '-' behind it when leaving), app:until (zset), owner (hash partition -> lease),
--       clock (hash), in (hash partition -> events taken in so far, 'tail' -> number of the last event), and of an io-node:
--       live of the member (hash client -> last will; the empty field keeps the number of the last call that was taken)
-- arguments: what ('io', 'join', 'app' or 'leaving': an app-node that is new, at work, or finishing), name, incarnation,
--            lease in ms, a random data id
-- answers: {1, or 0 when the node itself was fenced; lost members; app as pairs; owner as pairs;
--          {data id, number of the last event, number of the io-node's last call that was taken}}
-- invariant: nobody's lease runs out because Redis was away. When no sign of life came for half a lease, or time went
--            back (another server with another clock), everybody is given a whole lease to be heard again. A shard has
--            one data id for as long as it keeps its data.
local what, name, incarnation, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local io, io_until, lost, app, app_until, owner, clock, taken, live = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', clock, 'last') or 0)
local grace = tonumber(redis.call('HGET', clock, 'grace') or 0)
if now - last > lease / 2 or now < last then
  grace = now + lease
end
local known = redis.call('HGET', what == 'io' and io or app, name)
local alive
if what == 'io' then
  alive = known == incarnation
elseif what == 'join' then
  alive = true
else
  -- One that was taken out and not replaced may come back; who has its partitions now is said by their leases.
  alive = not known or known == incarnation or known == incarnation .. '-'
end

redis.call('HSET', clock, 'last', now, 'grace', grace)
redis.call('HSETNX', clock, 'data', ARGV[5])
local data = {
  redis.call('HGET', clock, 'data'),
  tonumber(redis.call('HGET', taken, 'tail') or 0),
  tonumber(string.match(live and redis.call('HGET', live, '') or '', '^%d+') or 0),
}
if not alive then return {0, {}, {}, {}, data} end
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
return {1, redis.call('SMEMBERS', lost), redis.call('HGETALL', app), redis.call('HGETALL', owner), data}
