-- Appends a dead letter's event to the log again.
-- keys: dead (stream); log (stream); in (hash, see ingest.lua); who (hash client -> io-node); clock (hash; revived -> the latest calls
--       that were answered 'queued')
-- arguments: id of the dead letter; partition; client (empty for none); a batch of the event; a random id of this call
-- answers: 'queued'; 'unknown'; 'gone' when the client has left; 'blocked' when the log accepts no entry
-- invariant: no event follows a client's disconnect, and a dead letter is revived once.
-- late copy: harmless. The dead letter is gone, and a recent call gets the same answer again.
-- cost: at most 13 calls.
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
