-- Gives up a run that was claimed: its task was refused, or it could not be submitted in time.
-- KEYS[1] base   ARGV[1] id  [2] the claim  [3] why it was refused; '' when it is missed
-- Returns 1 when it was still to be submitted
--- @include "../redis/any-memory.lua"
--- @include "schedule.lua"

local id, claim, why = ARGV[1], ARGV[2], ARGV[3]
local key = schedule_key(id)
local t = redis.call('HMGET', key, 'claim', 'next')
if t[1] ~= claim then return 0 end
redis.call('HDEL', key, 'claim')
if why == '' then
  redis.call('HINCRBY', key, 'missed', 1)
  redis.call('HSET', key, 'last_missed', string.match(claim, '[^\t]*$'))
else
  redis.call('HINCRBY', key, 'failed', 1)
  redis.call('HSET', key, 'error', why, 'error_at', integer(now_ms()))
end
look_at_schedule(id, t[2])
return 1
