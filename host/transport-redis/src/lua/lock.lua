-- Locks the keys that events have read and written in this shard, if their reads hold; or keeps the turns of events.
-- keys: ends, turns, locks, sizes (see sizes.lua), then the buckets that the items name. In the first three a key of a bucket is named
--       'key of the bucket\0key':
--       ends  (zset)  when keys that live for a time are gone, in milliseconds: then they are there no more for anybody
--       turns (hash)  'rank until': until then, younger events do not change the key. A hint, which may be lost
--       locks (hash)  'rank partition number mark ending reserved lease' of the event that is being committed. Ending: '-' leaves
--                     the time of the key, 'stays' ends it, a number is for how many milliseconds it lives from the commit on.
--                     Reserved: by how many bytes the bucket grows with what the event writes to this key
-- arguments: 'lock', or 'turn' to keep turns alone; partition and lease of the events; the most bytes that a bucket may have
--            here; the most timers of an app here, and of a client; then items of four, an event after the
--            other: which key (its place in KEYS), how, key in the bucket, value.
--            'e' begins an event:     -, its number, and 'rank turn mark': ranks are compared as text, and an event that was taken
--                                     in earlier has the lesser one; turn is for how many milliseconds its turn is kept if it
--                                     loses; marks of one lease grow with each try
--            'n' 'v' 'd' it has read: nothing; this value; a value of more than 40 bytes, by its SHA-1
--            's' 't' 'x' 'a' it has written: a value of so many bytes; a value for so many milliseconds and of so many bytes; a
--                                     deletion; an addition
-- answers: for each event: its number; 'ok', 'changed', 'locked' (also when others reserve the room that it needs), or 'full' when a
--          bucket would have too much, 'timers' when an app or a client would have too many of these; 'kept' when its turn is; the name of the locked key and the lock, or the full bucket and what
--          it holds; and the values that are there of the keys that it adds to
-- invariant: an event has all of its keys here or none, and a key is one event's. What a bucket holds and what is reserved in it are
--            no more than its most. What is reserved is the sum over the locks.
-- cost: for each key that is written three calls, for each that is read two; for each bucket that is written three.
-- late copy: harmless. It may lock keys for an event that has ended since: whoever meets such a lock finds that out, and ends it.
local ends, turns, locks, sizes = unpack(KEYS, 1, 4)
local mode, partition, lease = unpack(ARGV, 1, 3)
local most_bytes, most_timers, most_of_client = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
for i = 5, #KEYS do redis.call('EXISTS', KEYS[i]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local has_ends = redis.call('ZCARD', ends) > 0

local function is_over(name)
  local ended = has_ends and redis.call('ZSCORE', ends, name)
  return ended and tonumber(ended) <= now
end

local function value_of(op)
  local value = redis.call('HGET', op.bucket, op.key)
  if value and is_over(op.name) then return false end
  return value
end

local function is_read(op) return op.how == 'n' or op.how == 'v' or op.how == 'd' end

-- Why an event cannot have its keys, and more about it. Nothing when it can.
local function conflict(event)
  for _, op in ipairs(event.ops) do
    local lock = redis.call('HGET', locks, op.name)
    if lock then
      local rank, mark, holder = string.match(lock, '^(%S+) %S+ %S+ (%S+) %S+ %S+ (.*)$')
      if rank ~= event.rank or (holder == lease and tonumber(mark) > tonumber(event.mark)) then
        return 'locked', op.name, lock
      end
    end
  end
  for _, op in ipairs(event.ops) do
    if is_read(op) then
      local value = value_of(op)
      local is_same
      if op.how == 'n' then
        is_same = value == false
      elseif op.how == 'v' then
        is_same = value == op.value
      else
        is_same = value and #value > 40 and redis.sha1hex(value) == op.value
      end
      if not is_same then return 'changed', '', '' end
    else
      local turn = redis.call('HGET', turns, op.name)
      if turn then
        local rank, till = string.match(turn, '^(%S+) (%d+)$')
        if rank < event.rank and tonumber(till) > now then return 'changed', '', '' end
      end
    end
  end
end

-- How many bytes a bucket holds, and how many are reserved in it.
local held, reserved, reserved_before = {}, {}, {}
local function look_at(bucket)
  if held[bucket] then return end
  local sizes_here = redis.call('HMGET', sizes, bucket, reserved_field(bucket))
  held[bucket] = math.max(0, tonumber(sizes_here[1] or 0))
  reserved_before[bucket] = tonumber(sizes_here[2] or 0)
  reserved[bucket] = reserved_before[bucket]
end

-- What others reserve in a bucket, by their locks, and one of these. It puts right what is noted of it.
local function reserved_by_others(bucket, event)
  local names, others, all, name_of_one, lock_of_one = redis.call('HGETALL', locks), 0, 0, nil, nil
  for i = 1, #names, 2 do
    local rank, bytes = string.match(names[i + 1], '^(%S+) %S+ %S+ %S+ %S+ (%d+) ')
    bytes = tonumber(bytes or 0)
    if bytes > 0 and string.sub(names[i], 1, #bucket + 1) == bucket .. '\0' then
      all = all + bytes
      if rank ~= event.rank then
        others = others + bytes
        name_of_one, lock_of_one = names[i], names[i + 1]
      end
    end
  end
  reserved[bucket] = all
  return others, name_of_one, lock_of_one
end

-- By how many bytes each key that an event writes makes its bucket grow.
local function look_at_growth(event)
  event.growth, event.timers = {}, {}
  local growth, last = {}, {}
  for _, op in ipairs(event.ops) do
    if op.size then last[op.name] = op end
  end
  for name, op in pairs(last) do
    local by = op.how == 'x' and 0 or bytes_in_bucket(op.key, op.size)
    local before = redis.call('HSTRLEN', op.bucket, op.key)
    if before == 0 and op.how == 's' then
      local timers = timers_beside(op.bucket)
      if timers then
        event.timers[op.bucket] = event.timers[op.bucket] or {}
        table.insert(event.timers[op.bucket], op.key)
      end
    end
    if before > 0 or redis.call('HEXISTS', op.bucket, op.key) == 1 then by = by - bytes_in_bucket(op.key, before) end
    event.growth[name] = math.max(0, by)
    growth[op.bucket] = (growth[op.bucket] or 0) + by
  end
  return growth
end

-- Why buckets have no room for an event: 'full' and the bucket, or 'locked', what reserves the room, and its lock.
local function no_room(event)
  for bucket, by in pairs(look_at_growth(event)) do
    look_at(bucket)
    if by > 0 and held[bucket] + by > most_bytes then return 'full', bucket end
    if by > 0 and held[bucket] + reserved[bucket] + by > most_bytes then
      local others, name, lock = reserved_by_others(bucket, event)
      if held[bucket] + others + by > most_bytes then return 'locked', name, lock end
    end
  end
end

-- A bucket of timers that would have too many, and how many it has: all of them, or those of the client whose name begins so.
local function too_many_timers(event)
  for bucket, names in pairs(event.timers) do
    local all = redis.call('HLEN', bucket)
    if all + #names > most_timers then return bucket, tostring(all) end
    local more = {}
    for _, name in ipairs(names) do
      local owner = string.match(name, '^%d+ c %Z*%z%S* ')
      if owner then
        more[owner] = (more[owner] or 0) + 1
        local its = redis.call('ZLEXCOUNT', timers_beside(bucket) .. ':names', '[' .. owner, '(' .. string.sub(owner, 1, -2) .. '!')
        if its + more[owner] > most_of_client then return bucket, 'of a client ' .. its end
      end
    end
  end
end

local function keep_turn(event)
  if event.turn == 0 then return '' end
  if redis.call('HLEN', turns) > 100000 then redis.call('DEL', turns) end
  local kept = 'kept'
  for _, op in ipairs(event.ops) do
    local rank, till = string.match(redis.call('HGET', turns, op.name) or '', '^(%S+) (%d+)$')
    if not rank or event.rank <= rank or tonumber(till) <= now then
      redis.call('HSET', turns, op.name, string.format('%s %.0f', event.rank, now + event.turn))
    else
      kept = ''
    end
  end
  return kept
end

local function lock(event)
  local endings = {}
  for _, op in ipairs(event.ops) do
    local ending = '-'
    if op.how == 's' or op.how == 'x' then ending = 'stays' end
    if op.how == 't' then ending = op.ttl end
    if op.how == 'a' and is_over(op.name) then ending = 'stays' end
    if not endings[op.name] or endings[op.name] == '-' then endings[op.name] = ending end
  end
  for name, ending in pairs(endings) do
    local bytes = event.growth[name] or 0
    local bucket = string.match(name, '^%Z+')
    local before = string.match(redis.call('HGET', locks, name) or '', '^%S+ %S+ %S+ %S+ %S+ (%d+) ')
    local by = bytes - tonumber(before or 0)
    if by ~= 0 then
      look_at(bucket)
      reserved[bucket] = reserved[bucket] + by
    end
    local parts = {event.rank, partition, event.number, event.mark, ending, string.format('%.0f', bytes), lease}
    redis.call('HSET', locks, name, table.concat(parts, ' '))
  end
end

local answers, at = {}, 7
while at <= #ARGV do
  local rank, turn, mark = string.match(ARGV[at + 3], '^(%S+) (%d+) (%d+)$')
  local event = {number = ARGV[at + 2], rank = rank, turn = tonumber(turn), mark = mark, ops = {}}
  at = at + 4
  while at <= #ARGV and ARGV[at + 1] ~= 'e' do
    local op = {bucket = KEYS[tonumber(ARGV[at])], how = ARGV[at + 1], key = ARGV[at + 2], value = ARGV[at + 3]}
    op.name = op.bucket .. '\0' .. op.key
    if op.how == 't' then
      op.ttl, op.size = string.match(op.value, '^(%d+) (%d+)$')
    elseif op.how == 's' then
      op.size = op.value
    elseif op.how == 'x' then
      op.size = 0
    elseif op.how == 'a' then
      -- As long as an integer may be.
      op.size = 20
    end
    op.size = tonumber(op.size)
    table.insert(event.ops, op)
    at = at + 4
  end
  if mode == 'turn' then
    table.insert(answers, {event.number, 'ok', keep_turn(event), '', ''})
  else
    local why, name, lock_of = conflict(event)
    if not why then why, name, lock_of = no_room(event) end
    local crowded, of_it
    if not why then crowded, of_it = too_many_timers(event) end
    if crowded then
      table.insert(answers, {event.number, 'timers', '', crowded, of_it})
    elseif why == 'full' then
      table.insert(answers, {event.number, 'full', '', name, string.format('%.0f', held[name])})
    elseif why then
      table.insert(answers, {event.number, why, keep_turn(event), name, lock_of})
    else
      local answer = {event.number, 'ok', '', '', ''}
      for _, op in ipairs(event.ops) do
        if op.how == 'a' then table.insert(answer, value_of(op)) end
      end
      lock(event)
      table.insert(answers, answer)
    end
  end
end
for bucket, bytes in pairs(reserved) do
  if bytes ~= reserved_before[bucket] then redis.call('HSET', sizes, reserved_field(bucket), string.format('%.0f', bytes)) end
end
return answers
