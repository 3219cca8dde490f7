-- Adds a batch to the log; its id is the number of its last event. Answers that number, or nil when the log takes none.
-- Where something foreign stands with a greater id, numbers go on behind that.
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

-- Adds a batch of one event, and counts it among what its partition has taken in. Answers as `add_to_log` does.
local function add_one_event(log, taken, tail, partition, batch)
  local added = add_to_log(log, tail, 1, batch)
  if not added then return nil end
  -- A batch has 7 bytes around one event.
  local bytes = #batch - 7
  redis.call('HINCRBY', taken, partition, 1)
  redis.call('HINCRBY', taken, 'b' .. partition, bytes)
  redis.call('HINCRBY', taken, 'bytes', bytes)
  redis.call('HSET', taken, 'tail', string.format('%.0f', added))
  return added
end

