#!lua flags=no-writes
-- Reads the logs of partitions, limited by bytes in total.
-- keys: in (hash, see ingest.lua); then for each partition its log (see shared/log.lua)
-- arguments: bytes at which no further entries are added; then for each partition its number, and the number of the last event that the
--            reader has
-- answers: for the first partitions, as far as the bytes allow: {number of its last event, 1 if these are all entries, entries}
-- invariant: nothing changes.
-- late copy: harmless, because it only reads.
-- cost: two calls for each partition, and one for each eight entries.
local room, answer = tonumber(ARGV[1]), {}
-- Number of entries that are read together, whatever their size.
local most = 8
for i = 2, #ARGV, 2 do
  local from, entries, is_all = '(' .. ARGV[i + 1] .. '-0', {}, 0
  while is_all == 0 and room > 0 do
    local page = redis.call('XRANGE', KEYS[1 + i / 2], from, '+', 'COUNT', most)
    for _, entry in ipairs(page) do
      table.insert(entries, entry)
      for _, value in ipairs(entry[2]) do room = room - #value end
    end
    if #page < most then is_all = 1 else from = '(' .. page[most][1] end
  end
  table.insert(answer, {tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0), is_all, entries})
  if room <= 0 then break end
end
return answer
