-- Ends locks: with effect on the TTLs of their keys if their events are committed, without if not. Deletes some expired keys.
-- keys: ends, turns, locks (see lock_keys.lua); sizes (see sizes.lua)
-- arguments: 'done' when the events are committed, else 'void'; maximum number of expired keys to delete; then for each lock the name of
--            its key, and its owner: 'rank partition number attempt lease'
-- answers: nothing
-- invariant: locks of other events and attempts stay. A locked key is not deleted. The reservation of a lock ends with it.
-- late copy: harmless, because it compares the owner.
-- cost: at most five calls for each lock, and at most six for each expired key.
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
