-- The schedules that someone should have looked at by now. Writes nothing.
-- KEYS[1] base   ARGV[1] by so many ms  [2] at most so many
-- Returns their ids, the latest first
--- @include "schedule.lua"

return redis.call('ZRANGEBYSCORE', SCHEDULES, '-inf', integer(now_ms() - tonumber(ARGV[1])), 'LIMIT', 0, ARGV[2])
