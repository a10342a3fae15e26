-- Pauses a schedule, or lets it go on. A run that is being submitted still is.
-- KEYS[1] base   ARGV[1] id  [2] 1 to pause, 0 to go on  [3] the first run from now on is due, or ''
-- Returns nil when there is none, 0 when it was so before, 1
--- @include "schedule.lua"

local id = ARGV[1]
local key = schedule_key(id)
local was = redis.call('HGET', key, 'paused')
if not was then return nil end
if was == ARGV[2] then return 0 end
local next_due = ARGV[2] == '1' and '' or ARGV[3]
redis.call('HSET', key, 'paused', ARGV[2], 'next', next_due, 'updated', integer(now_ms()))
redis.call('HINCRBY', key, 'rev', 1)
if redis.call('HEXISTS', key, 'claim') == 0 then look_at_schedule(id, next_due) end
return 1
