#!lua
-- Takes events of an io-node into the logs of their partitions.
-- keys: io (hash name -> incarnation), live of the member (hash client -> partition and last will; the empty field keeps
--       the number of the last call and its answer), open (hash client -> events not committed), who (hash client ->
--       io-node), tail (hash partition -> number of its last event), then the logs (streams)
-- arguments: name, incarnation, number of this call, backlog of a partition, backlog of a client,
--            number of logs, the partition of each; then for each event: which log, 'c' connection 'd' disconnect
--            'm' other, client (may be empty), the event, its client's last will (for 'c')
--            The disconnect of a client that is not in the live set any more is accepted and left out.
-- answers: 'fenced', or the places of the events that were refused, from 1, each followed by a blank
-- invariant: a call that comes twice is answered twice and takes effect once. When an event of a client is refused, so
--            are all of it that follow here.
local io, live, open, who, tail = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, incarnation, call = ARGV[1], ARGV[2], tonumber(ARGV[3])
local backlog, client_backlog, logs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HGET', io, name) ~= incarnation then return 'fenced' end
local last, answer = string.match(redis.call('HGET', live, '') or '0 ', '^(%d+) (.*)$')
if call <= tonumber(last) then return answer end

-- Look: what there is in each log, and of each client.
local length, number = {}, redis.call('HMGET', tail, unpack(ARGV, 7, 6 + logs))
for i = 1, logs do
  length[i] = redis.call('XLEN', KEYS[5 + i])
  number[i] = tonumber(number[i] or 0)
end
local clients, count, stuck, changed = {}, {}, {}, {}
for i = 9 + logs, #ARGV, 5 do
  if not count[ARGV[i]] and ARGV[i] ~= '' then
    count[ARGV[i]] = 0
    table.insert(clients, ARGV[i])
  end
end
if #clients > 0 then
  for i, waiting in ipairs(redis.call('HMGET', open, unpack(clients))) do
    count[clients[i]] = tonumber(waiting or 0)
  end
end
redis.call('HLEN', who)

-- Write.
local refused = {}
local place = 0
for i = 7 + logs, #ARGV, 5 do
  place = place + 1
  local log, kind, client = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local waiting = count[client] or 0
  local id
  -- A client that was refused has been forgotten, and nobody is to hear of its end.
  local is_over = kind == 'd' and not stuck[client] and redis.call('HEXISTS', live, client) == 0
  if not is_over and not stuck[client] and length[log] < backlog and waiting < client_backlog then
    id = number[log] + 1
    -- The end of a client can be found again without reading the event.
    local fields = kind == 'd' and {'e', ARGV[i + 3], 'd', client} or {'e', ARGV[i + 3]}
    local added = redis.pcall('XADD', KEYS[5 + log], string.format('%.0f-0', id), unpack(fields))
    if type(added) == 'table' and added.err then
      -- Something foreign stands there with a greater id.
      local info = redis.call('XINFO', 'STREAM', KEYS[5 + log])
      for field = 1, #info, 2 do
        if info[field] == 'last-generated-id' then id = tonumber(string.match(info[field + 1], '^%d+')) + 1 end
      end
      added = redis.pcall('XADD', KEYS[5 + log], string.format('%.0f-0', id), unpack(fields))
      if type(added) == 'table' and added.err then id = nil end
    end
  end
  if id then
    number[log] = id
    length[log] = length[log] + 1
    if client ~= '' then
      count[client] = waiting + 1
      changed[client] = true
      if kind == 'c' then
        redis.call('HSET', who, client, name)
        redis.call('HSET', live, client, ARGV[6 + log] .. ':' .. ARGV[i + 4])
      elseif kind == 'd' then
        redis.call('HDEL', who, client)
        redis.call('HDEL', live, client)
      end
    end
  elseif not is_over then
    if client ~= '' then stuck[client] = true end
    table.insert(refused, place .. ' ')
  end
end
local tails, opens = {}, {}
for i = 1, logs do
  table.insert(tails, ARGV[6 + i])
  table.insert(tails, string.format('%.0f', number[i]))
end
for client in pairs(changed) do
  table.insert(opens, client)
  table.insert(opens, count[client])
end
redis.call('HSET', tail, unpack(tails))
if #opens > 0 then redis.call('HSET', open, unpack(opens)) end
answer = table.concat(refused)
redis.call('HSET', live, '', ARGV[3] .. ' ' .. answer)
return answer
