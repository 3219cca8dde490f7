-- Fires due timers: hands the event of each on, and updates or deletes the timer in the same step.
-- keys: sizes and timers (see sizes.lua); owner, in and done (hashes, see ingest.lua); who (hash client -> io-node); io (hash name ->
--       incarnation); out-all-in (string, see shared/outbox.lua); then the buckets of the timers
-- arguments: key prefixes of outboxes, of their bytes added and of their bytes read; maximum entries of an outbox; maximum bytes; maximum
--            open events of a partition; key prefix of logs; key prefix of wake-up streams; then for each timer: index of its bucket in
--            KEYS; name; the record that was read; the next record, or empty to delete it; partition; client, or empty; the commands
--            for the client, or else a batch of the event
-- answers: due time of the next timer, or nothing
-- invariant: a timer whose record has changed is left alone, so each due time fires once. A timer whose event has no room is due again
--            100 ms later. All commands for an io-node are one entry of its outbox.
-- late copy: harmless, because it compares the records.
-- cost: three calls, seven for each io-node, four for each timer of a client, and ten for each timer of an app; three more for a timer that
--       is deleted.
local sizes, timers, owner, taken, done, who, io, all_in = unpack(KEYS, 1, 8)
local out, out_in, out_read = unpack(ARGV, 1, 3)
local most_out, most_bytes, most_open = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local logs, wakes = ARGV[7], ARGV[8]

-- The outbox of an io-node with the entry for it; false if the io-node is lost.
local outboxes = {}
local function outbox_of(node)
  if outboxes[node] == nil then
    local incarnation = redis.call('HGET', io, node)
    local member = incarnation and incarnation .. '@' .. node
    outboxes[node] = member and {
      member = member,
      entry = {'a', redis.call('GET', all_in) or 0},
      added = 0,
      unread = (redis.call('GET', out_in .. member) or 0) - (redis.call('GET', out_read .. member) or 0),
      is_full = redis.call('XLEN', out .. member) >= most_out,
    }
  end
  return outboxes[node]
end

-- Adds commands to the entry for a client's io-node. Returns false when its outbox is full.
local function to_client(client, commands)
  local node = redis.call('HGET', who, client)
  local outbox = node and outbox_of(node)
  -- The client has left, or its io-node is lost and its disconnect will follow.
  if not outbox then return true end
  if outbox.is_full or outbox.unread + outbox.added >= most_bytes then return false end
  table.insert(outbox.entry, 'c' .. (#outbox.entry / 2 - 1))
  table.insert(outbox.entry, commands)
  outbox.added = outbox.added + #commands
  return true
end

local function to_partition(partition, batch)
  local accepted = redis.call('HGET', taken, partition) or 0
  local committed = string.match(redis.call('HGET', done, partition) or '0', '^%d+')
  if accepted - committed >= most_open then return false end
  add_events(logs, taken, owner, partition, batch, 1)
  return true
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Reads what is written below.
for at = 9, #ARGV, 7 do
  if ARGV[at + 5] == '' then redis.call('XLEN', logs .. ARGV[at + 4]) end
end
for at = 9, #ARGV, 7 do
  local bucket, name, record, next_record = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local partition, client, event = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  if redis.call('HGET', bucket, name) == record then
    local is_settled
    if client == '' then is_settled = to_partition(partition, event) else is_settled = to_client(client, event) end
    if is_settled and next_record == '' then
      delete(bucket, name)
    else
      -- One without room is postponed, so that it does not block the other timers.
      local due = string.format('%.0f', now + 100)
      if is_settled then
        redis.call('HSET', bucket, name, next_record)
        growth[bucket] = (growth[bucket] or 0) + #next_record - #record
        due = string.match(next_record, '^%d+')
      end
      redis.call('ZADD', timers, due, bucket .. '\0' .. name)
    end
  end
end
for _, outbox in pairs(outboxes) do
  if outbox and outbox.added > 0 then
    redis.call('XADD', out .. outbox.member, '*', unpack(outbox.entry))
    redis.call('INCRBY', out_in .. outbox.member, outbox.added)
  end
end
note_growth(sizes)
send_hints(wakes)
local next = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
return next and string.format('%.0f', next)
