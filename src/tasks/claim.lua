-- A run of a schedule is claimed for a task's id, before that is submitted (schedules/claim.lua); the submit takes the claim, so that
-- a run becomes one task however often and by whom it is submitted. Included by scripts, behind record.lua.
-- In the schedule's record (schedules/schedule.lua): `claim` is the task's id, a tab, when the run was due.

-- Whether the run was still to be submitted; now it is.
local function take_claim(due, task, now)
  local schedule, due_at = string.match(due, '^(.-)\t(.*)$')
  local key = schedule_key(schedule)
  if redis.call('HGET', key, 'claim') ~= task .. '\t' .. due_at then return false end
  redis.call('HSET', key, 'last_task', task, 'last_due', due_at, 'last_run', integer(now)) -- first, as it is what a full Redis refuses
  redis.call('HDEL', key, 'claim')
  redis.call('HINCRBY', key, 'runs', 1)
  local next_due = redis.call('HGET', key, 'next')
  redis.call('ZADD', SCHEDULES, next_due ~= '' and next_due or '+inf', schedule)
  return true
end
