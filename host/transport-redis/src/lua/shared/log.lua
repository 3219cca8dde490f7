-- Appends a batch to the log under the number of its last event. Returns that number, or nil when the log accepts no entry. If a foreign entry
-- has a greater id, the numbers continue behind it.
local function add_to_log(log, tail, events, batch)
  local added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', batch)
  if type(added) == 'table' and added.err then
    local info = redis.call('XINFO', 'STREAM', log)
    for field = 1, #info, 2 do
      if info[field] == 'last-generated-id' then tail = tonumber(string.match(info[field + 1], '^%d+')) end
    end
    added = redis.pcall('XADD', log, string.format('%.0f-0', tail + events), 'b', batch)
    if type(added) == 'table' and added.err then return nil end
  end
  return tail + events
end

-- Appends a batch of one event, and adds it to the counts of its partition. Returns the same as `add_to_log`.
local function add_one_event(log, taken, tail, partition, batch)
  local added = add_to_log(log, tail, 1, batch)
  if not added then return nil end
  -- A batch has 7 bytes besides its one event.
  local bytes = #batch - 7
  redis.call('HINCRBY', taken, partition, 1)
  redis.call('HINCRBY', taken, 'b' .. partition, bytes)
  redis.call('HINCRBY', taken, 'bytes', bytes)
  redis.call('HSET', taken, 'tail', string.format('%.0f', added))
  return added
end

