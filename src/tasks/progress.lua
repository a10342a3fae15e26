-- An agent tells how far its attempt has come: the record keeps the latest report, and the attempt's deadline moves if that is asked for.
-- KEYS[1] base
-- ARGV, for each: id; attempt; percent or ''; message; data as JSON text or ''; the report as watchers are told of it, JSON text in one line,
--   or '' when there is none and what was told stays; the deadline is to be no sooner than so many ms from now, or ''; and no later than so
--   many ms from when the attempt was sent
-- Returns for each {'ok', deadline in ms, 1 when a cancel was asked for, 1 when the task is running just now}
--   {'stale', status}   it is not the current attempt, or that is over: nothing changed
--   {'unknown'}         there is no such record
--- @include "../redis/any-memory.lua"
--- @include "record.lua"
--- @include "../redis/batch.lua"

-- Watchers are told no more often, of a task: those of others must not be driven out of the log.
local TELL_AGAIN_MS = 1000
local now = now_ms()

-- Moves the deadline with all that hangs on it: the lease, and the lock on a parked job, or the dispatcher that has the attempt in hand. Not
-- when a part of it is gone: then somebody is about to end the attempt. The look at the record stays where it is: one that comes too soon
-- sets itself right, so reports cost no more, however many come.
-- Returns the deadline, moved or not.
local function extend(id, attempt, sending, parked, spec, deadline, to)
  local agent = agent_in(sending)
  if to <= deadline or now >= deadline or not redis.call('ZSCORE', leases_key(agent), attempt) then return deadline end
  if parked then
    local lock = lock_key(queue_in(spec), id)
    if redis.call('GET', lock) ~= attempt then return deadline end
    redis.call('PEXPIRE', lock, integer(to - now + PARKED_MS))
  elseif publish(wake_channel(dispatcher_in(sending)), 'extend\t' .. attempt .. '\t' .. integer(to - now)) == 0 then
    return deadline
  end
  redis.call('ZADD', leases_key(agent), integer(to + LATE_MS), attempt)
  redis.call('HSET', task_key(id), 'sending', (string.gsub(sending, '^([^\t]*\t[^\t]*\t%d+\t)%d+', '%1' .. integer(to))))
  return to
end

-- `progress` of a record is: when it was told, when watchers were last told of one, percent, message.
local function report(id, n, agent, last, percent, message, data, event)
  local told_at = tonumber(string.match(last or '', '^%d+\t(%d+)') or 0)
  if now - told_at >= TELL_AGAIN_MS then
    told_at = now
    tell(id, 'progress', n, agent, '', event)
  end
  redis.call('HSET', task_key(id), 'progress', table.concat({ integer(now), integer(told_at), percent, message }, '\t'), 'progress_data', data)
end

local function progress(id, attempt, percent, message, data, event, extend_ms, most_ms)
  local t = redis.call('HMGET', task_key(id), 'status', 'attempt', 'sending', 'cancel', 'parked', 'spec', 'deliveries', 'progress')
  local status = t[1]
  if not status then return { 'unknown' } end
  if t[2] ~= attempt or (status ~= 'sent' and status ~= 'running') then return { 'stale', status } end
  if status == 'sent' then
    about[id] = { t[7], agent_in(t[3]), '' }
    set_status(id, status, 'running')
  end
  if event ~= '' then report(id, t[7], agent_in(t[3]), t[8], percent, message, data, event) end
  local deadline = deadline_in(t[3])
  -- What is to be cancelled gets no more time.
  if extend_ms ~= '' and t[4] ~= '1' then
    deadline = extend(id, attempt, t[3], t[5], t[6], deadline, math.min(now + tonumber(extend_ms), sent_in(t[3]) + tonumber(most_ms)))
  end
  return { 'ok', integer(deadline), t[4] == '1' and 1 or 0, status == 'sent' and 1 or 0 }
end

return for_each(8, progress, write_lists)
