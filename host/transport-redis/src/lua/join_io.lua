-- Adds an io-node with a fresh incarnation. Fences an earlier incarnation that it replaces or whose lease has expired.
-- keys: io (hash name -> incarnation); io:until (zset name -> deadline); lost (set of members); over (hash); who (hash); live set
--       of the member (hash); its outbox (stream); kept (hash); clock (hash; epoch -> last epoch given out); epochs
--       (zset name -> epoch of its last join); info (hash name -> address); begun (hash); bytes added to that outbox; bytes read of
--       it; ends (zset), turns (hash) and locks (hash) of the key-value store; out-all (stream), out-all-in (string) and out-all-read
--       (zset), see shared/outbox.lua
-- arguments: name; incarnation; lease in ms; epoch; earlier incarnations of the same process, with a space before and behind
--            each; address as JSON (empty in all shards but the first)
-- answers: {'joined', id of the last broadcast, which the member need not read}; {'held', incarnation that holds the name, its deadline,
--          ms until then}; {'late'} when a newer epoch is needed
-- invariant: a later join of a name has a greater epoch. An incarnation that was replaced, fenced or disconnected never returns.
--            While a slot moves, a script may miss keys that do not exist; so `over`, `kept`, `begun`, `turns`, `locks`, `who` and
--            the live set get an empty field, `ends` an infinite member, the streams exist, perhaps empty, and the byte
--            counters, perhaps as 0.
-- late copy: harmless. The names of the latest epochs are remembered, so a copy finds its own epoch or a greater one; a copy
--            with an older epoch is refused.
-- cost: at most 39 calls.
local io, io_until, lost, over, who, live, outbox, kept, clock, epochs, info, begun, out_in, out_read = unpack(KEYS, 1, 14)
local ends, turns, locks, all, all_in, readers = unpack(KEYS, 15, 20)
local name, incarnation, lease, epoch, replaces, place = unpack(ARGV)
lease, epoch = tonumber(lease), tonumber(epoch)
-- Number of joins whose epochs are remembered.
local remembered = 1000
local now, grace = shard_time(clock, lease)
local oldest = tonumber(redis.call('HGET', clock, 'epoch') or 0) - remembered
local known = tonumber(redis.call('ZSCORE', epochs, name) or -1)
local before = redis.call('HGET', io, name)
local function joined()
  local info = redis.call('XINFO', 'STREAM', all)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return {'joined', info[i + 1]} end
  end
end
if epoch == known and before == incarnation then return joined() end
if epoch <= known or epoch <= oldest then return {'late'} end
if before and not string.find(replaces, ' ' .. before .. ' ', 1, true) then
  local deadline = redis.call('ZSCORE', io_until, name) or '0'
  local left = math.max(tonumber(deadline), grace) - now
  if left >= 0 then return {'held', before, deadline, string.format('%.0f', left)} end
end
if before then
  redis.call('SADD', lost, before .. '@' .. name)
  note_view(clock)
end
redis.call('HSET', over, '', '')
redis.call('HSET', who, '', '')
redis.call('HSET', kept, '', '')
redis.call('HSET', begun, '', '')
redis.call('HSET', turns, '', '')
redis.call('HSET', locks, '', '')
redis.call('ZADD', ends, '+inf', '')
redis.call('HSET', live, '', '0')
redis.call('SET', out_in, '0')
redis.call('SET', out_read, '0')
redis.call('XDEL', outbox, redis.call('XADD', outbox, '*', 'c', ''))
if redis.call('EXISTS', all) == 0 then redis.call('XDEL', all, redis.call('XADD', all, '*', 'b', '0')) end
redis.call('SET', all_in, '0', 'NX')
redis.call('ZADD', readers, redis.call('GET', all_in), incarnation .. '@' .. name)
redis.call('ZADD', io_until, now + lease, name)
redis.call('HSET', io, name, incarnation)
redis.call('ZADD', epochs, epoch, name)
redis.call('ZREMRANGEBYSCORE', epochs, '-inf', oldest)
if place ~= '' then redis.call('HSET', info, name, place) end
return joined()
