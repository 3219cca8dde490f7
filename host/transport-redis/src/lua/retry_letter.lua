-- Appends a dead letter's event to the log of its partition again.
-- keys: dead (stream); in (hash, see ingest.lua); owner (hash partition -> lease); who (hash client -> io-node); clock (hash; retried ->
--       the latest calls that were answered 'queued'); log of the partition
-- arguments: id of the dead letter; partition; client (empty for none); a batch of the event; a random id of this call; key prefix of
--            logs; key prefix of wake-up streams
-- answers: 'queued'; 'unknown'; 'gone' when the client has left
-- invariant: no event follows a client's disconnect, and a dead letter is retried once.
-- late copy: harmless. The dead letter is gone, and a recent call gets the same answer again.
-- cost: at most 13 calls.
local dead, taken, owner, who, clock = unpack(KEYS)
local id, partition, client, batch, call, logs, wakes = unpack(ARGV)
call = ' ' .. call .. ' '
local retried = redis.call('HGET', clock, 'retried') or ''
if string.find(retried, call, 1, true) then return 'queued' end
if client ~= '' and not redis.call('HGET', who, client) then return 'gone' end
if #redis.call('XRANGE', dead, id, id) == 0 then return 'unknown' end
add_events(logs, taken, owner, partition, batch, 1)
redis.call('XDEL', dead, id)
redis.call('HSET', clock, 'retried', string.sub(call .. retried, 1, 4000))
send_hints(wakes)
return 'queued'
