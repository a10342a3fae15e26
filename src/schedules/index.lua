-- Notes under which agent type a schedule runs: from now on it is there, and runs, nowhere else.
-- KEYS[1] the base of the empty type   ARGV[1] id  [2] agent type  [3] at most so many
-- Returns the types under which it was before, or nil when there are too many to take another
--- @include "schedule.lua"

local id, of_type = ARGV[1], ARGV[2]
local before = redis.call('ZRANGEBYLEX', SCHEDULE_IDS, '[' .. id .. '\t', '(' .. id .. '\n')
if #before == 0 and redis.call('ZCARD', SCHEDULE_IDS) >= tonumber(ARGV[3]) then return nil end
local others = {}
for _, entry in ipairs(before) do
  local other = string.sub(entry, #id + 2)
  if other ~= of_type then
    redis.call('ZREM', SCHEDULE_IDS, entry)
    others[#others + 1] = other
  end
end
redis.call('ZADD', SCHEDULE_IDS, 0, id .. '\t' .. of_type)
return others
