-- Fences an io-node that does not read its outbox, so that commits continue. Its clients are disconnected by disconnect_lost.lua.
-- keys: io (hash name -> incarnation); io:until (zset name -> deadline); lost (set of members); outbox of the member (stream); bytes
--       added to it; bytes read of it; clock (hash, see shared/view.lua); out-all (stream), out-all-in (string) and out-all-read (zset),
--       see shared/outbox.lua
-- arguments: name; incarnation; maximum entries of an outbox; maximum bytes
-- answers: 1 when it was fenced
-- invariant: an io-node whose outbox has room again stays.
-- late copy: harmless. It checks the outbox again.
-- cost: at most twelve calls, and two for each io-node that is gone.
local io, io_until, lost, outbox, bytes_in, bytes_read, clock, all, all_in, readers = unpack(KEYS)
local name, incarnation, most, most_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('HGET', io, name) ~= incarnation then return 0 end
local member = incarnation .. '@' .. name
local bytes = redis.call('MGET', bytes_in, bytes_read, all_in)
local is_full = (bytes[1] or 0) - (bytes[2] or 0) >= most_bytes or redis.call('XLEN', outbox) >= most
if not is_full then
  local slowest, read = slowest_reader(readers, io)
  local unread = (bytes[3] or 0) - (read or 0)
  is_full = slowest == member and unread > 0 and (unread >= most_bytes or redis.call('XLEN', all) >= most)
end
if not is_full then return 0 end
redis.call('SADD', lost, member)
redis.call('ZREM', io_until, name)
redis.call('HDEL', io, name)
note_view(clock)
return 1
