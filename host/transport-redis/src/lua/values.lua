#!lua flags=no-writes
-- Reads fields of a hash, as many as an answer may hold.
-- keys: the hash
-- arguments: most bytes of all values, unless the first alone has more; fields
-- answers: the values of the first of these fields, at least of one
-- invariant: nothing changes.
-- late copy: harmless, for it only reads.
local values, bytes = {}, 0
for i = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if i > 2 and bytes > tonumber(ARGV[1]) then break end
  values[i - 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return values
