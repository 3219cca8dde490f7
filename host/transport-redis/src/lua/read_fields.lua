#!lua flags=no-writes
-- Reads fields of a hash, limited by bytes.
-- keys: the hash
-- arguments: maximum bytes of all values, unless the first one is larger; fields
-- answers: the values of the first fields; at least one
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: two calls for each field.
local values, bytes = {}, 0
for i = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if i > 2 and bytes > tonumber(ARGV[1]) then break end
  values[i - 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return values
