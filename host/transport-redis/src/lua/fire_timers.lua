-- Fires due timers: hands the event of each on, and updates or deletes the timer in the same step.
-- keys: sizes (see sizes.lua); owner, in and done (hashes, see ingest.lua); who (hash client -> io-node); io (hash name ->
--       incarnation); out-all-in (string, see shared/outbox.lua); then the buckets of the timers
-- arguments: key prefixes of outboxes, of their bytes added and of their bytes read; maximum entries of an outbox; maximum bytes; maximum open
--            events of a partition; key prefix of logs; key prefix of wake-up streams; then for each timer: index of its bucket in KEYS; name; the record that was read; the next record, or
--            empty to delete it; partition; client, or empty; the commands for the client, or else a batch of the event
-- answers: number of timers that were fired, or deleted because their clients are gone
-- invariant: a timer whose record has changed is left alone, so each due time fires once. A timer whose event has no room is due again
--            100 ms later.
-- late copy: harmless, because it compares the records.
-- cost: six calls for each timer of a client, and ten for each timer of an app.
local sizes, owner, taken, done, who, io, all_in = unpack(KEYS, 1, 7)
local out, out_in, out_read = unpack(ARGV, 1, 3)
local most_out, most_bytes, most_open = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local logs, wakes = ARGV[7], ARGV[8]

-- Appends commands to the outbox of a client's io-node. Returns false when it is full.
local function to_client(client, commands)
  local node = redis.call('HGET', who, client)
  local incarnation = node and redis.call('HGET', io, node)
  -- The client has left, or its io-node is lost and its disconnect will follow.
  if not incarnation then return true end
  local member = incarnation .. '@' .. node
  local unread = (redis.call('GET', out_in .. member) or 0) - (redis.call('GET', out_read .. member) or 0)
  if unread >= most_bytes or redis.call('XLEN', out .. member) >= most_out then return false end
  redis.call('XADD', out .. member, '*', 'a', redis.call('GET', all_in) or 0, 'c0', commands)
  redis.call('INCRBY', out_in .. member, #commands)
  return true
end

local function to_partition(partition, batch)
  local accepted = redis.call('HGET', taken, partition) or 0
  local committed = string.match(redis.call('HGET', done, partition) or '0', '^%d+')
  if accepted - committed >= most_open then return false end
  add_one_event(logs, taken, owner, partition, batch)
  return true
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fired = 0
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
    if is_settled then
      fired = fired + 1
      if next_record == '' then delete(bucket, name) else put(bucket, name, next_record) end
    else
      -- Postponed, so that it does not block the other timers.
      redis.call('ZADD', timers_beside(bucket), string.format('%.0f', now + 100), bucket .. '\0' .. name)
    end
  end
end
note_growth(sizes)
send_hints(wakes)
return fired
