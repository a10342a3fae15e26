-- The ids of the jobs that are at a dispatcher or parked at an agent now, over all queues of a type: bounded by the slots there are.
-- KEYS[1] base   Returns the ids
--- @include "heads.lua"

local ids = {}
for _, queue in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
  for _, id in ipairs(redis.call('LRANGE', bull_key(queue, 'active'), 0, -1)) do ids[#ids + 1] = id end
  for _, id in ipairs(redis.call('SMEMBERS', aside_key(queue))) do ids[#ids + 1] = id end
end
return ids
