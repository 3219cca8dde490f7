-- Disconnects clients of a lost io-node, a limited number in each call, and finally deletes the io-node's keys.
-- keys: lost (set of members); live set of the member (hash client -> last will, a batch of one event); its outbox (stream); who
--       (hash client -> io-node); owner (hash partition -> lease); in (hash, see ingest.lua); io (hash name -> incarnation); info
--       (hash name -> address); bytes added to that outbox; bytes read of it; clock (hash, see shared/view.lua)
-- arguments: member; its name; cursor of the scan of the live set; numbers of clients and of bytes of last wills at which no further ones
--            are taken; key prefix of logs; key prefix of wake-up streams
-- answers: 'done'; the next cursor when clients are left
-- invariant: a session leaves the live set together with the append of its one disconnect, behind all its events, because a
--            fenced io-node cannot append. The address stays if the io-node is back under the same name.
-- late copy: harmless. A member is removed from `lost` at the end and never returns, and any cursor finds only sessions that are left.
-- cost: at most 80 calls, seven for each partition, one for each owner of partitions, and two for each thousand clients.
local lost, live, outbox, who, owner, taken, io, info = unpack(KEYS)
local member, name, cursor, most, most_bytes, logs, wakes = unpack(ARGV)
if redis.call('SISMEMBER', lost, member) == 0 then return 'done' end
if not redis.call('HGET', io, name) then redis.call('HDEL', info, name) end
redis.call('HLEN', who)

-- Last wills by the bytes of a batch before its first length: the version of the events, and their partition.
local wills, clients, bytes = {}, {}, 0
for _ = 1, 64 do
  local page = redis.call('HSCAN', live, cursor, 'COUNT', 100)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local client, will = page[2][i], page[2][i + 1]
    if client ~= '' then
      local head = string.sub(will, 1, 3)
      wills[head] = wills[head] or {}
      table.insert(wills[head], string.sub(will, 2))
      table.insert(clients, client)
      bytes = bytes + #will
    end
  end
  if cursor == '0' or #clients >= tonumber(most) or bytes >= tonumber(most_bytes) then break end
end
local function partition_of(head) return string.byte(head, 2) + 256 * string.byte(head, 3) end
for head in pairs(wills) do redis.call('XLEN', logs .. partition_of(head)) end
local left = redis.call('HLEN', live) - redis.call('HEXISTS', live, '') - #clients
for head, events in pairs(wills) do
  local batch = string.sub(head, 1, 1) .. table.concat(events)
  add_events(logs, taken, owner, partition_of(head), batch, #events)
end
for _, key in ipairs({who, live}) do delete_fields(key, clients, 1, #clients) end
send_hints(wakes)
if left > 0 then return cursor end
redis.call('DEL', live, outbox, KEYS[9], KEYS[10])
redis.call('SREM', lost, member)
note_view(KEYS[11])
return 'done'
