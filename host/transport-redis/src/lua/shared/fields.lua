-- Deletes those of these values from `first` to `last` that are fields of a hash.
local function delete_fields(key, values, first, last)
  for from = first, last, 1000 do redis.call('HDEL', key, unpack(values, from, math.min(from + 999, last))) end
end
