-- Disconnects clients of a lost io-node, a limited number in each call, and finally deletes the io-node's keys.
-- keys: lost (set of members); live set of the member (hash client -> last will, a batch of one event); its outbox (stream); who
--       (hash client -> io-node); owner (hash partition -> lease); in (hash, see ingest.lua); io (hash name -> incarnation); info
--       (hash name -> address); bytes added to that outbox; bytes read of it; clock (hash, see shared/view.lua)
-- arguments: member; its name; maximum number of clients; key prefix of logs; key prefix of wake-up streams
-- answers: 'done'; 'more' when clients are left
-- invariant: a session leaves the live set together with the append of its one disconnect, behind all its events, because a
--            fenced io-node cannot append. The address stays if the io-node is back under the same name.
-- late copy: harmless. A member is removed from `lost` at the end and never returns.
-- cost: nine calls for each client.
local lost, live, outbox, who, owner, taken, io, info = unpack(KEYS)
local member, name, most, logs, wakes = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
if redis.call('SISMEMBER', lost, member) == 0 then return 'done' end
if not redis.call('HGET', io, name) then redis.call('HDEL', info, name) end
redis.call('HLEN', who)

local sessions = redis.call('HRANDFIELD', live, most + 1, 'WITHVALUES')
local left = redis.call('HLEN', live)
-- The partition of the first event follows the version byte of a batch.
local function partition_of(will) return string.byte(will, 2) + 256 * string.byte(will, 3) end
for i = 1, #sessions, 2 do
  if sessions[i] ~= '' then redis.call('XLEN', logs .. partition_of(sessions[i + 1])) end
end
for i = 1, #sessions, 2 do
  local client, will = sessions[i], sessions[i + 1]
  if client == '' then
    left = left - 1
  else
    add_one_event(logs, taken, owner, partition_of(will), will)
    redis.call('HDEL', who, client)
    redis.call('HDEL', live, client)
    left = left - 1
  end
end
send_hints(wakes)
if left > 0 then return 'more' end
redis.call('DEL', live, outbox, KEYS[9], KEYS[10])
redis.call('SREM', lost, member)
note_view(KEYS[11])
return 'done'
