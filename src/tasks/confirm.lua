-- Sent right behind the add: if the job is there, one dispatcher is told, now if there is room for it, or of when its time comes.
-- KEYS[1] base   ARGV[1] id  [2] queue
-- Returns 1 when the job is there.
--- @include "record.lua"

local id, queue = ARGV[1], ARGV[2]
if not has_job(queue, id) then return 0 end
local t = redis.call('HMGET', task_key(id), 'status', 'not_before')
local wait_ms = tonumber(t[2] or 0) - now_ms()
if (t[1] == 'pending' or t[1] == 'retrying') and wait_ms > 0 then wake(queue, wait_ms)
elseif next_agent(pool_of(queue)) then wake(queue) end
return 1
