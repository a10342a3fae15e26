-- Keeps the ended records of a status within their number: the oldest go.
-- KEYS[1] base   ARGV[1] status  [2] how many are kept  [3] at most so many at once
-- Returns how many were removed.
--- @include "record.lua"

local over = redis.call('ZCARD', tasks_key(ARGV[1])) - tonumber(ARGV[2])
if over <= 0 then return 0 end
local ids = redis.call('ZRANGE', tasks_key(ARGV[1]), 0, math.min(over, tonumber(ARGV[3])) - 1)
for _, id in ipairs(ids) do
  redis.call('DEL', task_key(id))
  redis.call('ZREM', TIMERS, id)
  redis.call('ZREM', tasks_key(ARGV[1]), id)
end
return #ids
