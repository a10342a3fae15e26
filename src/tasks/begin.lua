-- Fences new attempts at jobs that were taken before, or says why there are to be none. Awaited before the POST: after this, only this attempt may end the task.
-- KEYS[1] base
-- ARGV, for each: id; agent; the hold on its slot; unguessable token; dispatcher; the agent's name
-- Returns for each
--   {'go', attempt id, delivery number, spec, parameters, metadata, traceparent, retries, ms since it could go, slot or ''}
--                        the slot names another agent, when this one had failed the task before
--   {'ended', status, news}  nothing to do: finish the job; the hold stays
--   {'later', ms, news}  not before that; the hold stays
--                        news: what became of it just now {status, attempt lost or '', its agent or ''}, or '' when that was before
--   {'no_slot'}          the hold is gone
--   {'unknown'}          there is no such record
--- @include "../redis/any-memory.lua"
--- @include "sending.lua"
--- @include "../redis/batch.lua"

local now, turn = now_ms()

-- By the key of an agent's leases: the holds that end and the attempts that take their places, written together at the end.
local holds, attempts = {}, {}
local function take_place(leases, hold, attempt, until_ms)
  holds[leases], attempts[leases] = holds[leases] or {}, attempts[leases] or {}
  table.insert(holds[leases], hold)
  table.insert(attempts[leases], integer(until_ms))
  table.insert(attempts[leases], attempt)
end

local function begin(id, agent, hold, token, dispatcher, name)
  local t = record_of(id)
  local status, before = t[1], t[13]
  if not status then return { 'unknown' } end
  if ENDS[status] then return { 'ended', status, '' } end
  -- Said before, and our answer was lost: nothing was posted. The attempt is taken back, its lease is the hold again.
  if status == 'sent' and t[4] ~= '1' and string.sub(t[13], -#token) == token and agent_in(t[14]) == agent
    and redis.call('ZREM', leases_key(agent), t[13]) == 1 then
    redis.call('ZADD', leases_key(agent), integer(now + HOLD_MS), hold)
    t[5], status, before = tonumber(t[5]) - 1, 'queued', nil
  end
  -- The hold is older than the job's lock and runs out before it: a dispatcher that comes too late (it was frozen, say) has lost its slot,
  -- perhaps the job as well, and must not fence off the attempt of whoever has it now.
  local held = redis.call('ZSCORE', leases_key(agent), hold)
  if not held or tonumber(held) <= now then return { 'no_slot' } end
  local not_before, lost, lost_at = tonumber(t[2]), '', ''

  if status == 'sent' or status == 'running' then
    -- The job came round again although an attempt was under way: its dispatcher is dead or cut off. The attempt is fenced off;
    -- its lease stays until the agent says it is not running, or its deadline. It costs the user nothing, but not without end.
    local sent = redis.call('HMGET', task_key(id), 'sending', 'redeliveries')
    local redeliveries = tonumber(sent[2] or 0) + 1
    local a, entry = delivery_ended(id, t[5], sent[1], now, 'lost', '', 'the dispatcher stopped answering')
    redis.call('HDEL', task_key(id), 'parked')
    redis.call('HDEL', parked_key(agent_in(sent[1])), t[13])
    count('attempts:lost')
    count('redelivered:lost')
    watch(agent_in(sent[1]), deadline_in(sent[1]) + LATE_MS + 1)
    lost, lost_at = t[5], agent_in(sent[1])
    if t[4] == '1' then
      end_record(id, status, 'cancelled', now, a, entry, 'error', 'cancelled')
      count('ended:cancelled')
      return { 'ended', 'cancelled', { 'cancelled', lost, lost_at } }
    end
    if redeliveries > MAX_REDELIVERIES then
      end_record(id, status, 'failed', now, a, entry, 'redeliveries', redeliveries, 'error',
        'given up: ' .. redeliveries .. ' dispatchers in a row stopped answering while they delivered this task')
      count('ended:failed')
      return { 'ended', 'failed', { 'failed', lost, lost_at } }
    end
    not_before = now + redelivery_ms(redeliveries)
    set_status(id, status, 'queued', a, entry, 'redeliveries', redeliveries, 'not_before', integer(not_before))
    status = 'queued'
  end

  if not_before > now then
    look_at(id, math.min(not_before, tonumber(t[3])))
    return { 'later', integer(not_before - now), lost ~= '' and { status, lost, lost_at } or '' }
  end
  if expired(t[3], now) then
    end_expired(id, status, t[6], not_before, t[3], now)
    count('ended:timeout')
    return { 'ended', 'timeout', { 'timeout', lost, lost_at } }
  end
  -- A retry goes to another agent than those that failed it, if one has room.
  local moved, other = '', nil
  local avoid = t[11]
  if avoid and is_avoided(avoid, agent) then
    other = other_agent(pool_of(queue_in(t[6])), avoid)
    if other then
      redis.call('ZREM', leases_key(agent), hold)
      if rescore(agent, now) then offer(agent) end
      agent, name, moved = other.id, other.name, slot_reply(other, '', queue_in(t[6]))
    end
  end

  local attempt, timeout = attempt_of(now, token), timeout_in(t[6])
  local ends = now + timeout + LATE_MS
  if other then lease(other, attempt, ends, now, turn)
  else
    take_place(leases_key(agent), hold, attempt, ends)
    if timeout < HOLD_MS - LATE_MS then watch(agent, ends + 1) end -- sooner than the hold is looked at
  end
  local reply = mark_sent(id, t, status, before or nil, not_before, agent, name, token, dispatcher, now)
  reply[10] = moved
  return reply
end

return for_each(6, begin, function()
  for leases, list in pairs(holds) do
    redis.call('ZREM', leases, unpack(list))
    redis.call('ZADD', leases, unpack(attempts[leases]))
  end
  write_lists()
end)
