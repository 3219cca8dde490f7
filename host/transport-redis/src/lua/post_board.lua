#!lua
-- Puts a board in the place of the one that it was made from.
-- keys: board (hash: version, content, posted)
-- arguments: version of the board it was made from (0 when there is none), content, digest of the content
-- answers: 1, or 0 when another stands there
-- invariant: of two boards that were made from one, one takes its place. A version is never used twice, not even when Redis
--            has forgotten all: it grows with the time. The latest changes are remembered in `posted`, so that a call that
--            comes twice is answered twice and takes effect once.
-- late copy: harmless. The version that it was made from has passed.
local version, posted = unpack(redis.call('HMGET', KEYS[1], 'version', 'posted'))
version, posted = version or '0', posted or ''
local change = ' ' .. ARGV[1] .. ':' .. ARGV[3] .. ' '
if version ~= ARGV[1] then return string.find(posted, change, 1, true) and 1 or 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
version = string.format('%.0f', math.max((tonumber(version) or 0) + 1, now))
posted = string.sub(change .. posted, 1, 4000)
redis.call('HSET', KEYS[1], 'version', version, 'content', ARGV[2], 'posted', posted)
return 1
