#!lua
-- Puts an io-node in, under a fresh incarnation; an earlier one of that name is fenced.
-- keys: io (hash name -> incarnation), io:until (zset name -> deadline), lost (set of members), over (hash), who (hash),
--       live of the member (hash), outbox of the member (stream), log (stream), kept (hash), bytes put into that outbox and
--       bytes read of it (strings)
-- arguments: name, incarnation, lease in ms
-- answers: nothing
-- invariant: the keys that a script may find gone while their slot moves are there from now on: `over`, `kept`,
--            `who` and the live set by an empty field, the outbox and the log as empty streams, its bytes as 0.
local name, incarnation = ARGV[1], ARGV[2]
local before = redis.call('HGET', KEYS[1], name)
if before == incarnation then return end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if before then redis.call('SADD', KEYS[3], before .. '@' .. name) end
redis.call('HSET', KEYS[4], '', '')
redis.call('HSET', KEYS[5], '', '')
redis.call('HSET', KEYS[9], '', '')
redis.call('HSET', KEYS[6], '', '0')
redis.call('SET', KEYS[10], '0')
redis.call('SET', KEYS[11], '0')
redis.call('XDEL', KEYS[7], redis.call('XADD', KEYS[7], '*', 'c', ''))
if redis.call('EXISTS', KEYS[8]) == 0 then
  redis.call('XDEL', KEYS[8], redis.call('XADD', KEYS[8], '0-1', 'b', ''))
end
redis.call('ZADD', KEYS[2], now + ARGV[3], name)
redis.call('HSET', KEYS[1], name, incarnation)
