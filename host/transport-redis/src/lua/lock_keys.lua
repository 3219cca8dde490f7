-- Locks the keys that events have read and written in this shard, if their reads are current; or only keeps their turns.
-- keys: ends, turns, locks; sizes (see sizes.lua); then the buckets of the items. The first three name a key 'bucket\0key':
--       ends  (zset)  expiry in ms of keys with a TTL; an expired key is invisible
--       turns (hash)  'rank until': until then, younger events must not change the key. A hint that may be lost
--       locks (hash)  'rank partition number attempt ending reserved lease' of the event that is being committed.
--                     ending: '-' keeps the TTL of the key, 'stays' removes it, a number is the new TTL in ms.
--                     reserved: number of bytes by which the bucket grows with this key
-- arguments: 'lock', or 'turn' to keep turns only; partition and lease of the events; maximum bytes of a bucket here; maximum timers of
--            an app here; maximum timers of a client; then items of four values: index of the bucket in KEYS; kind; key; value.
--            'e' begins an event:  'x' if no other event reads or writes its keys, or empty; number; 'rank turn attempt': an older
--                                  event has the lesser rank (as text); turn is its duration in ms if the event loses; attempts
--                                  grow under one lease
--            'n' 'v' 'd' a read:   of nothing; of this value; of a value longer than 40 bytes with this SHA-1
--            's' 't' 'x' 'a' a write: a value of this size; 'TTL size'; a deletion; an addition
-- answers: for each event {number; 'ok', 'changed', 'locked' (also when reservations of others leave too little room), 'full' (bucket), or
--          'timers' (of app or client); 'kept' when its turn is kept; name of the locked key and its lock, or the full bucket
--          and its size; present values of the keys that it adds to}
-- invariant: an event locks all its keys here or none, and a key is locked by one event. An event with 'x' is only checked: it locks and
--            reserves nothing. Size plus reservations of a bucket do not exceed its maximum, apart from such events that are being
--            committed. The reservation of a bucket is the sum over its locks.
-- late copy: harmless. It may lock keys for an event that has ended: the next event that finds such a lock ends it.
-- cost: three calls for each key written, two for each key read, and three for each bucket written.
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

-- Reason why an event cannot lock its keys, with details; nothing when it can.
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

-- Loads the size of a bucket and the bytes reserved in it.
local held, reserved, reserved_before = {}, {}, {}
local function look_at(bucket)
  if held[bucket] then return end
  local sizes_here = redis.call('HMGET', sizes, bucket, reserved_field(bucket))
  held[bucket] = math.max(0, tonumber(sizes_here[1] or 0))
  reserved_before[bucket] = tonumber(sizes_here[2] or 0)
  reserved[bucket] = reserved_before[bucket]
end

-- Bytes that other events reserve in a bucket, and one of their locks. Corrects the stored reservation by the locks.
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

-- Computes the growth of each bucket in bytes by an event's writes, and of each key in `event.growth`.
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

-- Reason why a bucket has no room for an event: 'full' and the bucket, or 'locked', a key that reserves room, and its lock.
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

-- A bucket with too many timers, and their number: of the app, or of one client, found by the prefix of their names.
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
  local event = {number = ARGV[at + 2], rank = rank, turn = tonumber(turn), mark = mark, ops = {}, is_exclusive = ARGV[at] == 'x'}
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
      -- Maximum length of an integer.
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
      if not event.is_exclusive then lock(event) end
      table.insert(answers, answer)
    end
  end
end
for bucket, bytes in pairs(reserved) do
  if bytes == 0 and reserved_before[bucket] ~= 0 then
    redis.call('HDEL', sizes, reserved_field(bucket))
  elseif bytes ~= reserved_before[bucket] then
    redis.call('HSET', sizes, reserved_field(bucket), string.format('%.0f', bytes))
  end
end
return answers
