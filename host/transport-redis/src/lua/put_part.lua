#!lua
-- Writes a part that components name.
-- keys: parts (hash digest -> part), part uses (hash digest of a part -> how often components name it)
-- arguments: digest of the part, the part
-- answers: nothing
-- invariant: a part that no component names is not there.
-- late copy: harmless. The digest tells the bytes, and it looks again whether a component names them.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
