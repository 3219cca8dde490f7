#!lua flags=allow-oom
-- Tells the apps that clients of a lost io-node are gone, some at a time, and at the end removes what is left of it.
-- keys: lost (set of members), live of the member (hash client -> partition and last will), outbox of the member,
--       open (hash client -> events not committed), who (hash client -> io-node), tail (hash partition -> number of its
--       last event), then the logs of all partitions of the shard (streams)
-- arguments: member, how many clients at most, then the partition of each log
-- answers: 1 when there is more to do, else 0
-- invariant: each session leaves the live set together with the entry of its one disconnect, behind all its events:
--            a fenced io-node can add none.
local lost, live, outbox, open, who, tail = unpack(KEYS, 1, 6)
local member, most = ARGV[1], tonumber(ARGV[2])
if redis.call('SISMEMBER', lost, member) == 0 then return 0 end
local log = {}
for i = 3, #ARGV do log[ARGV[i]] = KEYS[4 + i] end
redis.call('HLEN', open)
redis.call('HLEN', who)
redis.call('HLEN', tail)

local sessions = redis.call('HRANDFIELD', live, most + 1, 'WITHVALUES')
local left = redis.call('HLEN', live)
for i = 1, #sessions, 2 do
  local client = sessions[i]
  if client == '' then
    left = left - 1
  else
    local partition, will = string.match(sessions[i + 1], '^(%d+):(.*)$')
    local id = tonumber(redis.call('HGET', tail, partition) or 0) + 1
    local added = redis.pcall('XADD', log[partition], string.format('%.0f-0', id), 'e', will, 'd', client)
    if type(added) ~= 'table' then
      redis.call('HSET', tail, partition, string.format('%.0f', id))
      redis.call('HINCRBY', open, client, 1)
      redis.call('HDEL', who, client)
      redis.call('HDEL', live, client)
      left = left - 1
    end
  end
end
if left > 0 then return 1 end
redis.call('DEL', live, outbox)
redis.call('SREM', lost, member)
return 0
