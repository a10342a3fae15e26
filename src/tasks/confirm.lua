-- Sent right behind the add: if the job is there, one dispatcher is told, now if there is room for it, or of when its time comes.
-- KEYS[1] base   ARGV[1] id  [2] queue
-- Returns 1 when the job is there.
--- @include "record.lua"

local id, queue = ARGV[1], ARGV[2]
if not has_job(queue, id) then return 0 end
local t = redis.call('HMGET', task_key(id), 'status', 'not_before')
if t[1] == 'pending' or t[1] == 'retrying' then wake(queue, math.max(0, tonumber(t[2]) - now_ms()))
elseif next_agent(pool_of(queue)) then wake(queue) end
return 1
