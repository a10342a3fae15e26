-- The ids of the jobs that are at a dispatcher now, over all queues of a type: bounded by the slots there are.
-- KEYS[1] base   Returns the ids
--- @include "heads.lua"

local ids = {}
for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  for _, id in ipairs(redis.call('LRANGE', bull_key(queue, 'active'), 0, -1)) do ids[#ids + 1] = id end
end
return ids
