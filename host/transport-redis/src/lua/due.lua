-- Reads the timers of a shard that are due, for the node that keeps them: one at a time, whoever was first to ask.
-- keys: timers (zset, see sizes.lua), timers:keeper (string: the node that keeps them)
-- arguments: who asks; for how many milliseconds it keeps them; most timers; most bytes of their records, unless one alone has more
-- answers: {} when another keeps them; else the time in milliseconds, when the next is due (or nothing), and for each that is due
--          its bucket, its name and its record
-- invariant: it changes nothing but the keeper. Two keepers at once do no harm: what is due is fired once, see fire.lua.
-- late copy: harmless. It may have an old node keep them for that time.
-- cost: two calls, and two for each timer that is due.
local timers, keeper = unpack(KEYS)
local me, kept, most, room = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local present = redis.call('GET', keeper)
if present and present ~= me then return {} end
redis.call('SET', keeper, me, 'PX', kept)
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local next = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
local answer = {now, next and string.format('%.0f', next) or false}
if not next or tonumber(next) > tonumber(now) then return answer end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, most)) do
  local bucket, name = string.match(member, '^(%Z+)%z(.*)$')
  local record = bucket and redis.call('HGET', bucket, name)
  if record then
    room = room - #record
    if room < 0 and #answer > 2 then break end
    table.insert(answer, bucket)
    table.insert(answer, name)
    table.insert(answer, record)
  else
    redis.call('ZREM', timers, member)
  end
end
return answer
