-- Takes the next job of a queue, for a slot that is held.
-- KEYS[1] base   ARGV[1] queue  [2] token of the lock
-- Returns its id, or nil when none can go
--- @include "../registry/slots.lua"
--- @include "jobs.lua"

return take_job(ARGV[1], ARGV[2], (now_ms()))
