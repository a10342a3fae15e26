-- Looks at the records whose time has come, oldest first.
-- KEYS[1] base   ARGV[1] at most so many
-- Returns a list of {what, id, …}, and a last entry {'more'} when there is more. For the caller to do with the queue:
--   {'promote', id, queue} its time has come · {'add', id, queue} it has no job · {'remove', id, queue} it has ended: its job may go
--   {'time_out', id, queue} it is parked, and its deadline has come
--   {'came_back', id, queue, attempt, status, ms until it may go, why} its agent no longer knew of the attempt, which was parked; or it was us
--      who could not hear its result in time
--   {'look', '', '', ms} the next record is to be looked at in so long
-- and to be told of: {'became', id, status}, behind them the attempt that was lost and its agent, if one was
--- @include "../redis/any-memory.lua"
--- @include "record.lua"
--- @include "../registry/absence.lua"

local now, most = now_ms(), tonumber(ARGV[1])
forgive_absence(now)
local todo = {}
local function act(what, id, queue, ...) todo[#todo + 1] = { what, id, queue, ... } end
local function became(id, status, ...) todo[#todo + 1] = { 'became', id, status, ... } end
local function give_end(id, from, to, ...)
  end_record(id, from, to, now, ...)
  count('ended:' .. to)
end

-- An attempt is over, and nobody said how it ended: the task goes again after `wait_ms`, which costs it nothing, but not without end.
-- Returns what it has become.
local function lose(id, t, queue, why, wait_ms, given_up)
  local status, sending, n, attempt, agent = t[1], t[5], t[6], t[10], agent_in(t[5])
  local redeliveries = tonumber(t[7] or 0) + 1
  local a, entry = delivery_ended(id, n, sending, now, 'lost', '', why)
  if t[9] then unpark(id, queue, agent, attempt) end
  count('attempts:lost')
  count('redelivered:lost')
  local became_of = 'queued'
  if t[8] == '1' then
    became_of = 'cancelled'
    give_end(id, status, became_of, a, entry, 'error', 'cancelled')
  elseif redeliveries > MAX_REDELIVERIES then
    became_of = 'failed'
    give_end(id, status, became_of, a, entry, 'redeliveries', redeliveries, 'error', given_up)
  else
    set_status(id, status, became_of, a, entry, 'redeliveries', redeliveries, 'not_before', integer(now + wait_ms))
  end
  became(id, became_of, n, agent)
  return became_of
end

-- A parked attempt is over, and that is not its task's fault.
local function lose_parked(id, t, queue, why, given_up)
  local wait_ms = redelivery_ms(tonumber(t[7] or 0) + 1)
  local became_of = lose(id, t, queue, why, wait_ms, given_up)
  if became_of == 'queued' then look_at(id, math.min(now + wait_ms, math.max(tonumber(t[3]), now + 1))) end
  act('came_back', id, queue, t[10], became_of, integer(wait_ms), why)
end

-- Until when a parked attempt is waited for, and whether it is excused: its deadline fell into an absence of ours, or right behind. Then its result
-- may still be told, and if none is it has not timed out. Noted, as there may be another absence before that. The lock on its job may have run out.
local function waits_until(id, t, queue, deadline)
  local excused = t[9] ~= PARKED and tonumber(t[9])
  if not excused then
    excused = heard_until(deadline)
    if not excused then return deadline, false end
    redis.call('HSET', task_key(id), 'parked', integer(excused))
    if is_aside(queue, id) then redis.call('SET', lock_key(queue, id), t[10], 'PX', integer(math.max(excused - now, 0) + PARKED_MS)) end
  end
  return math.max(excused, deadline), true
end

-- Its callback may yet come; unless the agent has said that it knows nothing of it.
local function look_at_parked(id, t, queue, deadline)
  local until_ms, excused = waits_until(id, t, queue, deadline)
  if now < until_ms then
    if redis.call('HEXISTS', parked_key(agent_in(t[5])), t[10]) == 1 then return look_at(id, until_ms) end
    return lose_parked(id, t, queue, 'the agent no longer knew of the attempt', 'given up: it was delivered again and again, and its agents lost it')
  end
  if excused then return lose_parked(id, t, queue, 'we were away at its deadline', 'given up: it was delivered again and again, and we were away at its deadlines') end
  -- Its callback has not come in time. Asked again should whoever does it die.
  look_at(id, now + 2000)
  act('time_out', id, queue)
end

local due = redis.call('ZRANGEBYSCORE', TIMERS, '-inf', integer(now), 'LIMIT', 0, most)
for _, id in ipairs(due) do
  local t = redis.call('HMGET', task_key(id), 'status', 'not_before', 'expires', 'spec', 'sending', 'deliveries', 'redeliveries', 'cancel', 'parked',
    'attempt', 'cancel_by')
  local status, queue = t[1], t[4] and queue_in(t[4])
  if not status or ENDS[status] then
    redis.call('ZREM', TIMERS, id)
  elseif status == 'sent' or status == 'running' then
    local deadline = deadline_in(t[5])
    local overdue = deadline + OVERDUE_MS
    if t[8] == '1' and not t[9] and now >= tonumber(t[11] or 0) then
      end_cancelled(id, status, t[10], t[6], t[5], now)
      became(id, 'cancelled')
      act('remove', id, queue)
    elseif t[9] and (now < overdue or t[9] ~= PARKED or heard_until(deadline)) then
      look_at_parked(id, t, queue, deadline)
    elseif now < overdue then
      look_at(id, t[8] == '1' and math.min(tonumber(t[11]), overdue) or overdue)
    else
      -- Nobody has ended it, nor has its job come round: the job is lost. It goes again.
      local became_of = lose(id, t, queue, 'nobody ended the attempt by its deadline', 0, 'given up: it was delivered again and again, and nobody ended it')
      if became_of == 'queued' then
        look_at(id, now + CONFIRM_MS)
        act('add', id, queue)
      else
        act('remove', id, queue)
      end
    end
  elseif expired(t[3], now) then
    end_expired(id, status, t[4], t[2], t[3], now)
    count('ended:timeout')
    became(id, 'timeout')
    act('remove', id, queue)
  elseif not has_job(queue, id) then
    -- Whoever submitted it died before the job was added, or the add has failed.
    look_at(id, now + CONFIRM_MS)
    act('add', id, queue)
  elseif tonumber(t[2]) <= now then
    if status == 'pending' then
      set_status(id, status, 'queued')
      became(id, 'queued')
    end
    if in_line(queue, id) then
      look_at(id, tonumber(t[3]))
    else
      -- Delayed still, or in the hands of a dispatcher that may be about to delay it: look again until it stands in line.
      look_at(id, math.min(now + 1000, tonumber(t[3])))
      if is_delayed(queue, id) then act('promote', id, queue) end
    end
  else
    look_at(id, math.min(tonumber(t[2]), tonumber(t[3])))
  end
end
write_lists()
if #due == most then act('more', '', '')
else
  local next_look = redis.call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')[2]
  if next_look then act('look', '', '', integer(math.max(0, tonumber(next_look) - now))) end
end
return todo
