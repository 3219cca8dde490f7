-- Logs of partitions, and hints to their owners.
-- log:P: stream; an entry is a batch of events of one call ('b'). Its id is the number of its last event. Numbers count the events that
--        partition P has accepted
-- wake:MEMBER: stream of an app-node; an entry has for each partition of a call the field 'P:NUMBER', the number of its last event,
--              with the batch, or with nothing if all batches are large; or the field 'timers' (see sizes.lua). It is only a hint: the
--              app-node finds missing ones by the numbers, and reads the log instead. It is bounded by dropping the oldest
local hints = {}
-- Maximum size of the batches in a hint, in bytes.
local most_in_hint = 32768
-- Maximum number of hints that wait for an app-node.
local most_hints = 64

-- Appends a batch to a log whose last event has the number `before`. A foreign entry with a greater id gets a lower one, with a minor
-- part by which the owner of the partition finds it.
local function add_to_log(log, before, last, batch)
  local id, before_id = string.format('%.0f-0', last), string.format('%.0f-', before)
  local added = redis.pcall('XADD', log, id, 'b', batch)
  if type(added) == 'table' and added.err then
    local found, foreign = redis.pcall('XRANGE', log, '-', '+'), 0
    redis.call('DEL', log)
    for _, entry in ipairs(found.err and {} or found) do
      local major, minor = string.match(entry[1], '^(%d+)-(%d+)$')
      if tonumber(major) > before or (tonumber(major) == before and minor ~= '0') then
        foreign = foreign + 1
        entry[1] = before_id .. foreign
      end
      redis.call('XADD', log, entry[1], unpack(entry[2]))
    end
    redis.call('XADD', log, id, 'b', batch)
    -- Hides the batch from hints, so that the log is read.
    return false
  end
  return true
end

-- Adds a batch to the hint for the owner of its partition, if it has one.
local function hint(lease, partition, last, batch)
  local member = lease and string.match(lease, '^%d+:(.+)$')
  if not member then return end
  local its = hints[member]
  if not its then
    its = {entry = {}, last = {}, bytes = 0}
    hints[member] = its
  end
  its.last[partition] = last
  its.bytes = its.bytes + #batch
  table.insert(its.entry, string.format('%s:%.0f', partition, last))
  table.insert(its.entry, batch)
end

-- Sends the hints. The name of an app-node's stream is this prefix and the member. No error ends the script, which has written before.
local function send_hints(wakes)
  for member, its in pairs(hints) do
    local entry = its.entry
    if its.bytes > most_in_hint then
      entry = {}
      for partition, last in pairs(its.last) do
        table.insert(entry, string.format('%s:%.0f', partition, last))
        table.insert(entry, '')
      end
    end
    redis.pcall('XADD', wakes .. member, 'NOMKSTREAM', 'MAXLEN', most_hints, '*', unpack(entry))
  end
end

-- Appends a batch of this number of events to the log of their partition, which has this prefix; and adds it to the counts and the hints.
local function add_events(logs, taken, owner, partition, batch, events)
  local before = tonumber(redis.call('HGET', taken, partition) or 0)
  local lease = redis.call('HGET', owner, partition)
  local is_plain = add_to_log(logs .. partition, before, before + events, batch)
  -- A batch has 1 byte, and 6 for each event, besides the events.
  redis.call('HINCRBY', taken, 'b' .. partition, #batch - 1 - 6 * events)
  redis.call('HINCRBY', taken, partition, events)
  redis.call('HINCRBY', taken, 'tail', events)
  hint(lease, partition, before + events, is_plain and batch or '')
end
