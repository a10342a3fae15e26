-- Cancels a task: at once while it waits or is parked; else by asking the dispatcher that delivers it, and the sweeper should that one not.
-- KEYS[1] base   ARGV[1] id
-- Returns nil when unknown, {'cancelled', queue}, {'cancelled', queue, the attempt that was parked: its lock on the job}, {'requested', status} or {'ended', status}
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

local id = ARGV[1]
local t = redis.call('HMGET', task_key(id), 'status', 'spec', 'sending', 'attempt', 'parked', 'deliveries')
if not t[1] then return nil end
if ENDS[t[1]] then return { 'ended', t[1] } end
if t[1] == 'sent' or t[1] == 'running' then
  redis.call('HSET', task_key(id), 'cancel', '1')
  local agent = agent_in(t[3])
  for _, attempt in ipairs(redis.call('SMEMBERS', cancels_key(agent))) do -- those over since, whose agent never said so
    if not redis.call('ZSCORE', leases_key(agent), attempt) then redis.call('SREM', cancels_key(agent), attempt) end
  end
  redis.call('SADD', cancels_key(agent), t[4])
  redis.call('PEXPIRE', cancels_key(agent), DAY_MS)
  if t[5] then
    -- No dispatcher holds it: it ends here. The slot stays taken until the agent, told now and by its next beat, says that it has stopped.
    local now = now_ms()
    local a, entry = delivery_ended(id, t[6], t[3], now, 'cancelled', '', '')
    unpark(id, queue_in(t[2]), agent, t[4])
    end_record(id, t[1], 'cancelled', now, a, entry, 'error', 'cancelled')
    count('attempts:cancelled')
    count('ended:cancelled')
    write_lists()
    tell_to_stop(id, t[4], agent)
    return { 'cancelled', queue_in(t[2]), t[4] }
  end
  local by = integer(now_ms() + CANCEL_MS)
  if redis.call('HSETNX', task_key(id), 'cancel_by', by) == 1 then redis.call('ZADD', TIMERS, 'LT', by, id) end
  if publish(wake_channel(dispatcher_in(t[3])), 'cancel\t' .. t[4]) == 0 then tell_to_stop(id, t[4], agent) end
  return { 'requested', t[1] }
end
end_record(id, t[1], 'cancelled', now_ms(), 'error', 'cancelled', 'cancel', '1')
count('ended:cancelled')
write_lists()
return { 'cancelled', queue_in(t[2]) }
