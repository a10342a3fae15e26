-- Looks at the records whose time has come, oldest first, and at those admitted but not confirmed in time.
-- KEYS[1] base   ARGV[1] at most so many  [2] retention of failed and timed-out, ms  [3] a confirmation is late after so many ms
-- Returns a list of {what, id, queue} for the caller to do with the queue, and a last entry {'more'} when there is more:
--   'promote' its time has come · 'add' it has no job · 'remove' it has ended: its job may go
--- @include "record.lua"

local now, most, keep_ms = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local todo = {}
local function act(what, id, queue) todo[#todo + 1] = { what, id, queue } end

local due = redis.call('ZRANGEBYSCORE', TIMERS, '-inf', integer(now), 'LIMIT', 0, most)
for _, id in ipairs(due) do
  local t = redis.call('HMGET', task_key(id), 'status', 'not_before', 'expires', 'queue', 'sending', 'deliveries', 'agent', 'redeliveries', 'cancel')
  local status = t[1]
  if not status then
    redis.call('ZREM', TIMERS, id)
  elseif ENDS[status] then
    redis.call('ZREM', TIMERS, id)
    redis.call('ZREM', tasks_key(status), id)
    redis.call('DEL', task_key(id))
  elseif status == 'sent' or status == 'running' then
    -- Half a minute past its deadline nobody has ended it, nor has its job come round: the job is lost. It goes again.
    local redeliveries = tonumber(t[8] or 0) + 1
    local a, entry = delivery_ended(id, t[6], t[5], now, 'lost', '', 'nobody ended the attempt by its deadline')
    count('redelivered:lost')
    if t[9] == '1' then
      end_record(id, status, 'cancelled', now, keep_ms, a, entry, 'error', 'cancelled')
      act('remove', id, t[4])
    elseif redeliveries > MAX_REDELIVERIES then
      end_record(id, status, 'failed', now, keep_ms, a, entry, 'redeliveries', redeliveries, 'error', 'given up: it was delivered again and again, and nobody ended it')
      act('remove', id, t[4])
    else
      set_status(id, status, 'queued', a, entry, 'attempt', '', 'redeliveries', redeliveries, 'not_before', integer(now))
      redis.call('ZADD', ADMITTING, integer(now), id)
      look_at(id, tonumber(t[3]))
      act('add', id, t[4])
    end
  elseif expired(t[3], now) then
    end_record(id, status, 'timeout', now, keep_ms, 'error', 'expired')
    act('remove', id, t[4])
  elseif tonumber(t[2]) <= now then
    if status == 'pending' then set_status(id, status, 'queued') end
    look_at(id, tonumber(t[3]))
    act('promote', id, t[4])
  else
    look_at(id, math.min(tonumber(t[2]), tonumber(t[3])))
  end
end

-- Whoever submitted these has died in between, or the add has failed. The next look is due as late again, should we die too.
local late = redis.call('ZRANGEBYSCORE', ADMITTING, '-inf', integer(now - tonumber(ARGV[3])), 'LIMIT', 0, most)
for _, id in ipairs(late) do
  local t = redis.call('HMGET', task_key(id), 'status', 'queue')
  if not t[1] or ENDS[t[1]] or redis.call('EXISTS', bull_key(t[2], id)) == 1 then
    redis.call('ZREM', ADMITTING, id)
  else
    redis.call('ZADD', ADMITTING, integer(now), id)
    act('add', id, t[2])
  end
end
if #due == most or #late == most then act('more', '', '') end
return todo
