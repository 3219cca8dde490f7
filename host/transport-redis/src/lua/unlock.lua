-- Ends locks of events that are committed, with what that means for how long keys live, or of events that are not; and deletes
-- some keys whose time is over.
-- keys: ends, turns, locks (see lock.lua), sizes (see sizes.lua)
-- arguments: 'done' when the events are committed, else 'void'; how many keys may be deleted; for each lock the name of the key
--            that it is on, and whose it is: 'rank partition number mark lease'
-- answers: nothing
-- invariant: a lock of another event, or of another try of the same, stays. A key that is locked is not deleted. What a lock has
--            reserved ends with it.
-- late copy: harmless, by that.
local ends, turns, locks, sizes = unpack(KEYS, 1, 4)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #ARGV, 2 do
  local name = ARGV[i]
  local lock = redis.call('HGET', locks, name) or ''
  local id, ending, reserved, lease = string.match(lock, '^(%S+ %S+ %S+ %S+) (%S+) (%d+) (.*)$')
  if id and id .. ' ' .. lease == ARGV[i + 1] then
    if ARGV[1] == 'done' then
      if ending == 'stays' then
        redis.call('ZREM', ends, name)
      elseif ending ~= '-' then
        redis.call('ZADD', ends, string.format('%.0f', now + tonumber(ending)), name)
      end
      local turn = redis.call('HGET', turns, name)
      if turn and string.match(turn, '^%S+') == string.match(id, '^%S+') then redis.call('HDEL', turns, name) end
    end
    redis.call('HDEL', locks, name)
    if reserved ~= '0' then
      local field = reserved_field(string.match(name, '^%Z+'))
      growth[field] = (growth[field] or 0) - tonumber(reserved)
    end
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])) do
  if redis.call('HEXISTS', locks, name) == 0 then
    local bucket, key = string.match(name, '^(%Z+)%z(.*)$')
    if bucket then delete(bucket, key) end
    redis.call('ZREM', ends, name)
  end
end
note_growth(sizes)
