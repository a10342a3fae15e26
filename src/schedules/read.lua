-- Reads a schedule's record. Writes nothing.
-- KEYS[1] base   ARGV[1] id
-- Returns {ms now, fields and values}; of one that is not there none
--- @include "schedule.lua"

return { integer(now_ms()), redis.call('HGETALL', schedule_key(ARGV[1])) }
