-- Reads due timers for the node that owns the timers of a shard. The first node to ask becomes the owner.
-- keys: timers (zset, see sizes.lua); timers:keeper (string: the owner)
-- arguments: the asking node; TTL of the ownership in ms; maximum number of timers; maximum bytes of their records, unless a single
--            record is larger
-- answers: {ms until the ownership of another node ends}; or {time in ms, due time of the next timer or nothing, then for each due
--          timer its bucket, name and record}
-- invariant: it changes only the owner. Two owners at once are harmless: fire_timers.lua fires a timer once.
-- late copy: harmless. It may make a former owner the owner again, for one TTL.
-- cost: five calls, and one for each due timer.
local timers, keeper = unpack(KEYS)
local me, kept, most, room = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local present = redis.call('GET', keeper)
if present and present ~= me then return {math.max(0, redis.call('PTTL', keeper))} end
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
