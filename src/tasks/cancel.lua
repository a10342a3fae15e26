-- Cancels a task: at once while it waits; once it is at an agent, by asking the dispatcher that delivers it.
-- KEYS[1] base   ARGV[1] id  [2] retention, ms
-- Returns nil when unknown, {'cancelled', queue}, {'requested', status} or {'ended', status}
--- @include "record.lua"

local id = ARGV[1]
local t = redis.call('HMGET', task_key(id), 'status', 'queue', 'dispatcher', 'attempt', 'agent')
if not t[1] then return nil end
if ENDS[t[1]] then return { 'ended', t[1] } end
if t[1] == 'sent' or t[1] == 'running' then
  redis.call('HSET', task_key(id), 'cancel', '1')
  for _, attempt in ipairs(redis.call('SMEMBERS', cancels_key(t[5]))) do -- those over since, whose agent never said so
    if not redis.call('ZSCORE', leases_key(t[5]), attempt) then redis.call('SREM', cancels_key(t[5]), attempt) end
  end
  redis.call('SADD', cancels_key(t[5]), t[4])
  redis.call('PEXPIRE', cancels_key(t[5]), 86400000)
  redis.call('PUBLISH', wake_channel(t[3]), 'cancel\t' .. t[4])
  return { 'requested', t[1] }
end
end_record(id, t[1], 'cancelled', now_ms(), tonumber(ARGV[2]), 'error', 'cancelled', 'cancel', '1')
count('ended:cancelled')
return { 'cancelled', t[2] }
