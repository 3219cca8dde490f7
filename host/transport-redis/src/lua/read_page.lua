#!lua flags=no-writes
-- Reads a page of a stream, limited by count and bytes.
-- keys: the stream
-- arguments: XRANGE or XREVRANGE; first id; last id; maximum number of entries; bytes at which no further entry is added
-- answers: the entries; at least one if there is any
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: one call for each entry.
local way, from, to, most, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local page = {}
while #page < most and room > 0 do
  local entry = redis.call(way, KEYS[1], from, to, 'COUNT', 1)[1]
  if not entry then break end
  table.insert(page, entry)
  from = '(' .. entry[1]
  for _, value in ipairs(entry[2]) do room = room - #value end
end
return page
