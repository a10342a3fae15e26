-- Ends a task that has waited too long, or whose cancel was not obeyed in time, seen by a reader before any dispatcher (perhaps none is alive).
-- KEYS[1] base   ARGV[1] id
-- Returns {its queue, the end} when it has ended so now, else nil.
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

local id, now = ARGV[1], now_ms()
local t = redis.call('HMGET', task_key(id), 'status', 'expires', 'spec', 'cancel_by', 'attempt', 'deliveries', 'sending', 'parked', 'not_before')
local ends_as
if (t[1] == 'pending' or t[1] == 'queued' or t[1] == 'retrying') and expired(t[2], now) then
  ends_as = 'timeout'
  end_expired(id, t[1], t[3], t[9], t[2], now)
  count('ended:timeout')
elseif (t[1] == 'sent' or t[1] == 'running') and t[4] and not t[8] and now >= tonumber(t[4]) then
  ends_as = 'cancelled'
  end_cancelled(id, t[1], t[5], t[6], t[7], now)
end
if not ends_as then return nil end
write_lists()
return { queue_in(t[3]), ends_as }
