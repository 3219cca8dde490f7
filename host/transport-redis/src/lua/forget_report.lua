#!lua flags=allow-oom
-- Forgets what a node told that is gone.
-- keys: reports (hash name -> report)
-- arguments: name, the report
-- answers: nothing
-- invariant: what the node has told since stays.
-- late copy: harmless, for it compares.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
