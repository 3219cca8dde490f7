#!lua flags=no-writes
-- Reads a page of a stream, as much as an answer may hold.
-- keys: the stream
-- arguments: XRANGE or XREVRANGE, where to begin, where to end, most entries, most bytes
-- answers: the entries, at least one if there is any; the last may make it more bytes
-- invariant: nothing changes.
-- late copy: harmless, for it only reads.
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
