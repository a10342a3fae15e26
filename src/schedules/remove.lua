-- Removes the record of a schedule. A run that is being submitted is not, any more.
-- KEYS[1] base   ARGV[1] id
-- Returns how many the agent type has left
--- @include "../redis/any-memory.lua"
--- @include "schedule.lua"

redis.call('DEL', schedule_key(ARGV[1]))
redis.call('ZREM', SCHEDULES, ARGV[1])
return redis.call('ZCARD', SCHEDULES)
