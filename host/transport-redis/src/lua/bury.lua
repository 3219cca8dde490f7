-- Tells the apps that clients of a lost io-node are gone, some at a time, and at the end removes what is left of it.
-- keys: lost (set of members), live of the member (hash client -> last will, a batch of one event), outbox of the member,
--       who (hash client -> io-node), log (stream), in (hash partition -> events taken in so far, 'b' and partition -> their
--       bytes, 'bytes', 'tail'), io (hash name -> incarnation), info (hash name -> where clients reach it), bytes put into that
--       outbox and bytes read of it (strings)
-- arguments: member, its name, how many clients at most
-- answers: 'done'; 'more' when there is more to do; 'blocked' when the log takes nothing just now
-- invariant: each session leaves the live set together with the entry of its one disconnect, behind all its events:
--            a fenced io-node can add none. Where an io-node is reached stays for one that is back under the same name.
-- late copy: harmless. A member that was buried is in `lost` no more, and does not come back.
local lost, live, outbox, who, log, taken, io, info = unpack(KEYS)
local member, name, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('SISMEMBER', lost, member) == 0 then return 'done' end
if not redis.call('HGET', io, name) then redis.call('HDEL', info, name) end
redis.call('HLEN', who)
redis.call('XLEN', log)
local tail = tonumber(redis.call('HGET', taken, 'tail') or 0)

local sessions = redis.call('HRANDFIELD', live, most + 1, 'WITHVALUES')
local left = redis.call('HLEN', live)
for i = 1, #sessions, 2 do
  local client, will = sessions[i], sessions[i + 1]
  if client == '' then
    left = left - 1
  else
    -- Behind the version of a batch stands the partition of its first event.
    local partition = string.byte(will, 2) + 256 * string.byte(will, 3)
    local added = add_one_event(log, taken, tail, partition, will)
    if not added then return 'blocked' end
    tail = added
    redis.call('HDEL', who, client)
    redis.call('HDEL', live, client)
    left = left - 1
  end
end
if left > 0 then return 'more' end
redis.call('DEL', live, outbox, KEYS[9], KEYS[10])
redis.call('SREM', lost, member)
return 'done'
