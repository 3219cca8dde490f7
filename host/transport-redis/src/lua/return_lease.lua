-- Gives a partition back.
-- keys: owner (hash partition -> lease); clock (hash, see shared/view.lua)
-- arguments: partition; the lease as claimed
-- answers: nothing
-- invariant: the lease of another holder stays, and so does the epoch.
-- late copy: harmless. Every claim has a new epoch, so a later lease differs.
-- cost: five calls.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], string.match(ARGV[2], '^%d+:'))
  note_view(KEYS[2])
end
