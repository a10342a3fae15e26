-- The record of a schedule: one hash, changed only by the scripts here and by the submit of a run (tasks/claim.lua). Included by them.
-- Fields: timing task (as it was put, JSON) catch_up (ms) rev (goes up with each change by a client) paused ('1') next (when the next run
--   is due; '' when never, or paused) created updated claim (a run that is being submitted) runs last_task last_due last_run missed
--   last_missed failed error error_at
-- What is in `timing` and when runs are due is worked out by callers, from Redis's time; scripts compare, and keep.
-- A schedule stands in `schedules` at the time when someone must look at it.
--- @include "../registry/slots.lua"

-- A run that has been claimed and not submitted so long after is submitted by whoever looks next.
local SUBMIT_MS = 2000

local function look_at_schedule(id, next_due)
  redis.call('ZADD', SCHEDULES, next_due ~= '' and next_due or '+inf', id)
end
