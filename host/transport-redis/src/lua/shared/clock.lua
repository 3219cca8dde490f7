-- Time of a shard in milliseconds, by which leases are granted and judged. It never goes backwards: when Redis' clock is set back, or a
-- server with another clock takes over, it continues from its last value. Returns the time, and the end of the grace period during
-- which no lease expires: after half a lease without any heartbeat, Redis was away, and every node gets a whole lease to
-- renew.
-- clock: hash; last -> time of the last call, behind -> offset added to Redis' clock, grace -> end of the grace period
local function shard_time(clock, lease)
  local time = redis.call('TIME')
  local last, behind, grace = unpack(redis.call('HMGET', clock, 'last', 'behind', 'grace'))
  last, behind, grace = tonumber(last or 0), tonumber(behind or 0), tonumber(grace or 0)
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + behind
  if now < last then
    behind = behind + last - now
    now = last
  end
  if now - last > lease / 2 then grace = now + lease end
  redis.call('HSET', clock, 'last', now, 'behind', behind, 'grace', grace)
  return now, grace
end
