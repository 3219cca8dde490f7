#!lua flags=allow-oom
-- Enforces the budgets of dead letters for each app and, within it, for each client.
-- keys: dead (stream: 'd' letter, 'a' app, 'c' client); dead:order (zset, all scores 0: for each letter one member for its app and one for
--       its client); dead:kept (hash owner -> letters and bytes; 'last' -> id of the last counted letter)
-- arguments: maximum letters of an app; maximum bytes; the same two of a client; then for each deleted letter its id, app, client and
--            bytes
-- answers: nothing
-- invariant: the oldest letter of an owner is deleted first, and the last one stays. Letters that an earlier call did not count, because
--            its node died, are counted by the next.
-- late copy: harmless. A letter is counted once and uncounted once.
-- cost: about ten calls for each new or deleted letter.
local dead, order, kept = unpack(KEYS)
local budgets = {
  a = {tonumber(ARGV[1]), tonumber(ARGV[2])},
  c = {tonumber(ARGV[3]), tonumber(ARGV[4])},
}

-- Owners and ids have a fixed width, so that the members of an owner are adjacent and sorted by age.
local function owners(app, client)
  local of_client = client ~= '' and 'c' .. redis.sha1hex(app .. '\0' .. client) or ''
  return 'a' .. redis.sha1hex(app), of_client
end
local function place(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%020.0f-%010.0f', ms, n)
end
local function member(owner, at, bytes, other)
  return string.format('%s%s:%.0f:%s', owner, at, bytes, other)
end

local function load(owner)
  local letters, bytes = string.match(redis.call('HGET', kept, owner) or '0 0', '^(%d+) (%d+)$')
  return tonumber(letters), tonumber(bytes)
end
local function count(owner, letters, bytes)
  local were, had = load(owner)
  if were + letters > 0 then
    redis.call('HSET', kept, owner, string.format('%.0f %.0f', were + letters, math.max(0, had + bytes)))
  else
    redis.call('HDEL', kept, owner)
  end
end
local function note(owner, at, bytes, other)
  if owner ~= '' and redis.call('ZADD', order, 0, member(owner, at, bytes, other)) == 1 then count(owner, 1, bytes) end
end
local function forget(owner, at, bytes, other)
  if owner ~= '' and redis.call('ZREM', order, member(owner, at, bytes, other)) == 1 then count(owner, -1, -bytes) end
end

local function trim(owner)
  local most, most_bytes = unpack(budgets[string.sub(owner, 1, 1)] or {0, 0})
  while owner ~= '' do
    local letters, bytes = load(owner)
    if letters <= 1 or (letters <= most and bytes <= most_bytes) then return end
    local oldest = redis.call('ZRANGEBYLEX', order, '[' .. owner, '[' .. owner .. '~', 'LIMIT', 0, 1)[1]
    if not oldest then
      redis.call('HDEL', kept, owner)
      return
    end
    local at, its, other = string.match(oldest, '^([%d-]+):(%d+):(.*)$', #owner + 1)
    local ms, n = string.match(at, '^(%d+)-(%d+)$')
    redis.call('XDEL', dead, string.format('%.0f-%.0f', ms, n))
    forget(owner, at, tonumber(its), other)
    forget(other, at, tonumber(its), owner)
  end
end

redis.call('XLEN', dead)
for i = 5, #ARGV, 4 do
  local at, bytes = place(ARGV[i]), tonumber(ARGV[i + 3])
  local of_app, of_client = owners(ARGV[i + 1], ARGV[i + 2])
  forget(of_app, at, bytes, of_client)
  forget(of_client, at, bytes, of_app)
end
local last = redis.call('HGET', kept, 'last')
while true do
  local letters = redis.call('XRANGE', dead, last and '(' .. last or '-', '+', 'COUNT', 16)
  if #letters == 0 then break end
  for _, letter in ipairs(letters) do
    local values = {}
    for i = 1, #letter[2], 2 do values[letter[2][i]] = letter[2][i + 1] end
    local of_app, of_client = owners(values.a or '', values.c or '')
    local at, bytes = place(letter[1]), #(values.d or '')
    note(of_app, at, bytes, of_client)
    note(of_client, at, bytes, of_app)
    trim(of_client)
    trim(of_app)
    last = letter[1]
  end
  redis.call('HSET', kept, 'last', last)
end
