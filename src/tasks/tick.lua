-- Looks at the records whose time has come, oldest first.
-- KEYS[1] base   ARGV[1] at most so many  [2] retention of failed and timed-out, ms
-- Returns a list of {what, id, queue} for the caller to do with the queue, and a last entry {'more'} when there is more:
--   'promote' its time has come · 'add' it has no confirmed job, or lost it · 'remove' it has ended: its job may go
--- @include "record.lua"

local now, most, keep_ms = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local todo = {}
local due = redis.call('ZRANGEBYSCORE', TIMERS, '-inf', integer(now), 'LIMIT', 0, most)
for _, id in ipairs(due) do
  local t = redis.call('HMGET', task_key(id), 'status', 'not_before', 'expires', 'queue', 'unconfirmed', 'deliveries', 'agent', 'redeliveries', 'cancel')
  local status = t[1]
  if not status then
    redis.call('ZREM', TIMERS, id)
  elseif ENDS[status] then
    redis.call('ZREM', TIMERS, id)
    redis.call('ZREM', tasks_key(status), id)
    redis.call('DEL', task_key(id))
  elseif status == 'sent' or status == 'running' then
    -- Half a minute past its deadline nobody has ended it, nor has its job come round: the job is lost. It goes again.
    end_delivery(id, t[6], now, 'lost', '', 'nobody ended the attempt by its deadline')
    count('redelivered', 'lost')
    if t[9] == '1' then
      finish_record(id, status, 'cancelled', now, keep_ms, { 'error', 'cancelled' })
      todo[#todo + 1] = { 'remove', id, t[4] }
    elseif tonumber(t[8] or 0) >= MAX_REDELIVERIES then
      finish_record(id, status, 'failed', now, keep_ms, { 'error', 'given up: it was delivered again and again, and nobody ended it' })
      todo[#todo + 1] = { 'remove', id, t[4] }
    else
      redis.call('HSET', task_key(id), 'attempt', '', 'redeliveries', tonumber(t[8] or 0) + 1, 'unconfirmed', '1', 'not_before', integer(now))
      redis.call('HDEL', task_key(id), 'deadline', 'dispatcher')
      set_status(id, status, 'queued')
      look_at(id, now + 5000)
      todo[#todo + 1] = { 'add', id, t[4] }
    end
    if redis.call('EXISTS', agent_key(t[7])) == 1 then rescore(t[7], now) end
  elseif expired(t[3], now) then
    finish_record(id, status, 'timeout', now, keep_ms, { 'error', 'expired' })
    todo[#todo + 1] = { 'remove', id, t[4] }
  elseif t[5] == '1' then
    look_at(id, now + 5000)
    todo[#todo + 1] = { 'add', id, t[4] }
  elseif tonumber(t[2]) <= now then
    if status == 'pending' then set_status(id, status, 'queued') end
    look_at(id, tonumber(t[3]))
    todo[#todo + 1] = { 'promote', id, t[4] }
  else
    look_at(id, math.min(tonumber(t[2]), tonumber(t[3])))
  end
end
if #due == most then todo[#todo + 1] = { 'more', '', '' } end
return todo
