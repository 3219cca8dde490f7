#!lua
-- Replaces the board of releases, if it is still the one that the new board was made from.
-- keys: board (hash: version, content, posted)
-- arguments: version of the board it was made from (0 for none); content; digest of the content
-- answers: 1, or 0 when the version differs
-- invariant: of two boards made from the same one, one wins. A version is never used twice, even after a loss of data, because it grows
--            with the time. `posted` holds the latest changes, so a repeated call gets the same answer.
-- late copy: harmless. Its version has passed.
-- cost: three calls.
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
