-- The time of a shard, by which leases are given and judged, in milliseconds. It never goes back: when Redis' own clock was
-- set back, or another server has another, it goes on from where it was. Answers the time, and until when nobody's lease
-- has run out: when nobody was heard for half a lease, Redis was away, and everybody has a whole one to be heard again.
-- clock: hash; last -> the time, behind -> how far Redis' clock is behind it, grace -> the end of that lease
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
