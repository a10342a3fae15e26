-- Claims a run that is due for a task, which is submitted next; and notes those that are missed. From now on the next run is due.
-- Whoever claims by what they have read of the record finds it so, or claims nothing: a run is claimed once.
-- KEYS[1] base   ARGV[1] id  [2] rev, as read  [3] next, as read  [4] id of the task, or '' when the run is too late  [5] when it was due
--   [6] next  [7] how many are missed  [8] when the last of them was due, or ''
-- Returns 1 when it is so
--- @include "schedule.lua"

local id, task = ARGV[1], ARGV[4]
local key = schedule_key(id)
local t = redis.call('HMGET', key, 'rev', 'next', 'claim')
if t[1] ~= ARGV[2] or t[2] ~= ARGV[3] or t[3] then return 0 end
redis.call('HSET', key, 'next', ARGV[6])
if task ~= '' then redis.call('HSET', key, 'claim', task .. '\t' .. ARGV[5]) end
if ARGV[7] ~= '0' then
  redis.call('HINCRBY', key, 'missed', ARGV[7])
  redis.call('HSET', key, 'last_missed', ARGV[8])
end
look_at_schedule(id, task ~= '' and integer(now_ms() + SUBMIT_MS) or ARGV[6])
return 1
