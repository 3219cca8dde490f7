#!lua
-- Writes a part that components refer to.
-- keys: parts (hash digest -> part); part-uses (hash digest of a part -> number of components that refer to it)
-- arguments: digest of the part; the part
-- answers: nothing
-- invariant: every stored part belongs to a component.
-- late copy: harmless. The digest determines the bytes, and the reference is checked again.
-- cost: two calls.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
