#!lua flags=allow-oom
-- Deletes the report of an absent node.
-- keys: reports (hash name -> report)
-- arguments: name; the report
-- answers: nothing
-- invariant: a newer report stays.
-- late copy: harmless, because it compares the report.
-- cost: two calls.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
