#!lua
-- Finds the commands that the user of the connection may not run, by running each once.
-- keys: a key that nothing else uses; it is deleted at the end
-- arguments: none
-- answers: names of the denied commands
-- invariant: no other key changes.
-- late copy: harmless, because it leaves nothing behind.
-- cost: about 40 calls.
local key = KEYS[1]
local calls = {
    { 'TIME' }, { 'EXISTS', key }, { 'DEL', key },
    { 'HSET', key, 'f', '1' }, { 'HGET', key, 'f' }, { 'HMGET', key, 'f' }, { 'HGETALL', key }, { 'HKEYS', key },
    { 'HLEN', key }, { 'HEXISTS', key, 'f' }, { 'HSTRLEN', key, 'f' }, { 'HINCRBY', key, 'f', '1' }, { 'HRANDFIELD', key }, { 'HSCAN', key, '0' }, { 'HDEL', key, 'f' },
    { 'SADD', key, 'm' }, { 'SISMEMBER', key, 'm' }, { 'SMEMBERS', key }, { 'SREM', key, 'm' },
    { 'ZADD', key, '1', 'm' }, { 'ZRANGEBYSCORE', key, '0', '1' }, { 'ZRANGEBYLEX', key, '-', '+' }, { 'ZREMRANGEBYSCORE', key, '5', '6' }, { 'ZSCORE', key, 'm' }, { 'ZREM', key, 'm' },
    { 'XADD', key, '1-0', 'f', 'v' }, { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XREVRANGE', key, '+', '-' }, { 'XINFO', 'STREAM', key },
    { 'XREAD', 'COUNT', '1', 'STREAMS', key, '0' }, { 'XDEL', key, '1-0' }, { 'XTRIM', key, 'MAXLEN', '0' },
    { 'XSETID', key, '2-0' }, { 'EXPIRE', key, '1' }, { 'DEL', key },
    { 'SET', key, '1', 'XX' }, { 'MGET', key }, { 'INCRBY', key, '1' }, { 'DEL', key },
}
local denied = {}
for _, call in ipairs(calls) do
    local answer = redis.pcall(unpack(call))
    local problem = type(answer) == 'table' and answer.err or ''
    if problem:find("can't run this command", 1, true) or problem:find('ACL failure', 1, true)
        or problem:find('NOPERM', 1, true) then
        denied[#denied + 1] = call[1]
    end
end
return denied
