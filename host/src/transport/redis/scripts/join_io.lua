#!lua
-- Puts an io-node in, under a fresh incarnation; an earlier one of that name is fenced.
-- keys: io (hash name -> incarnation), io:until (zset name -> deadline), lost (set of members), open (hash), who (hash),
--       live of the member (hash), outbox of the member (stream)
-- arguments: name, incarnation, lease in ms
-- answers: nothing
-- invariant: the keys that a script may find gone while their slot moves are there from now on: `open`, `who` and the
--            live set by an empty field, the outbox as an empty stream.
local name, incarnation = ARGV[1], ARGV[2]
local before = redis.call('HGET', KEYS[1], name)
if before == incarnation then return end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if before then redis.call('SADD', KEYS[3], before .. '@' .. name) end
redis.call('HSET', KEYS[4], '', 0)
redis.call('HSET', KEYS[5], '', '')
redis.call('HSET', KEYS[6], '', '0 ')
redis.call('XDEL', KEYS[7], redis.call('XADD', KEYS[7], '*', 'c', ''))
redis.call('ZADD', KEYS[2], now + ARGV[3], name)
redis.call('HSET', KEYS[1], name, incarnation)
