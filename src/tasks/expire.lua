-- Ends a task that has waited too long, seen by a reader before any dispatcher (perhaps none is alive).
-- KEYS[1] base   ARGV[1] id
-- Returns its queue when it has ended so now, else nil.
--- @include "record.lua"

local id, now = ARGV[1], now_ms()
local t = redis.call('HMGET', task_key(id), 'status', 'expires', 'spec', 'not_before')
if t[1] ~= 'pending' and t[1] ~= 'queued' and t[1] ~= 'retrying' or not expired(t[2], now) then return nil end
end_expired(id, t[1], t[3], t[4], t[2], now)
count('ended:timeout')
write_lists()
return queue_in(t[3])
