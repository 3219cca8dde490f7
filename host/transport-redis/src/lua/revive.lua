-- Puts a dead letter's event at the end of the log again.
-- keys: dead (stream), log (stream), in (hash partition -> events taken in so far, 'b' and partition -> their
--       bytes, 'bytes', 'tail'), who (hash client -> io-node),
--       clock (hash; revived -> the latest calls that were answered 'queued')
-- arguments: id of the dead letter, partition, client (may be empty), a batch of the event, a name of this call
-- answers: 'queued', 'unknown', 'gone', or 'blocked' when the log takes nothing
-- invariant: a client has no event after its disconnect, and a dead letter is revived once.
-- late copy: harmless. The dead letter is not there any more; a call that took effect of late is answered as it was then.
local dead, log, taken, who, clock = unpack(KEYS)
local id, partition, client, batch, call = unpack(ARGV)
call = ' ' .. call .. ' '
local revived = redis.call('HGET', clock, 'revived') or ''
if string.find(revived, call, 1, true) then return 'queued' end
if client ~= '' and not redis.call('HGET', who, client) then return 'gone' end
if #redis.call('XRANGE', dead, id, id) == 0 then return 'unknown' end
local tail = tonumber(redis.call('HGET', taken, 'tail') or 0)
if not add_one_event(log, taken, tail, partition, batch) then return 'blocked' end
redis.call('XDEL', dead, id)
redis.call('HSET', clock, 'revived', string.sub(call .. revived, 1, 4000))
return 'queued'
