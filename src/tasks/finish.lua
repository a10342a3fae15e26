-- Ends attempts: the record by compare-and-set, the job of one that has completed, then the slot, which is freed or leased again for the next task at once, whose
-- job is taken for it.
-- KEYS[1] base
-- ARGV, for each: id; attempt; agent; outcome; status code or ''; error or ''; result; execution ms or ''; if it is retried, after so many
--   ms; the task's max_retries; the agent rests so many ms; token for the next attempt, or '' when no slot is wanted; limits (failed.lua);
--   1 when it is nobody's fault; its queue; what its job is locked with, and the next one is to be, or '' when that is not here to be moved;
--   1 to keep the job for the Board; its dispatcher; 1 when that has had no answer to the same before
-- Returns for each {verdict, status, ms until it may go again, slot with its job and perhaps its attempt (reserve.lua) or '', 1 when this was said before, what else has come of it: a list, or nothing}
--   verdict 'ok': the outcome counts · 'stale': another attempt or an end came first, nothing changed; status says what is
--   in that list: {'poison'}, the task is that · {'back', agent}, it is well again · {'cleared', agent}, it was never sick, it was the tasks ·
--   {'out', agent, until ms, times in a row, why, could it be spared (sick.lua), attempts refunded}, it is sick
-- Running twice (a repeated command, as the answer was lost) changes nothing: the answer is that of the first time, and so is the slot that was handed over.
--- @include "../redis/any-memory.lua"
--- @include "failed.lua"
--- @include "sending.lua"
--- @include "../redis/batch.lua"

local now, turn = now_ms()

-- Agents as read by this call and kept right by what it does to them: most items of a call are of the same few agents.
local read = {}
local function agent_of(id)
  local agent = read[id] or read_agent(id)
  read[id] = agent
  return agent
end
-- The next job of the best of the agent's queues, and that queue; nil when nothing waits.
local function take_next(agent, lock)
  local only = #agent.queues == 1 and agent.queues[1]
  local queue = only or best_queue(agent.queues)
  local job = queue and take_job(queue, lock, now)
  if job then return job, queue end
end

-- Has the record come to its status by this very outcome? Then it was said before.
local function said_before(id, status, n, outcome, err)
  local t = redis.call('HMGET', task_key(id), 'a' .. n, 'ended')
  local at, said, why = string.match(t[1] or '', '^[^\t]*\t[^\t]*\t[^\t]*\t([^\t]*)\t([^\t]*)\t[^\t]*\t(.*)$')
  return said == outcome and why == err and (not ENDS[status] or t[2] == at)
end

-- The agent was suspected not to be there, and has answered: it is. This is no beat, by which attempts that it does not list are over, so the last one
-- is remembered.
local function is_there(agent)
  agent.out = ''
  redis.call('HSETNX', agent_key(agent.id), 'beat', redis.call('HGET', agent_key(agent.id), 'seen'))
  redis.call('HSET', agent_key(agent.id), 'out', '', 'seen', integer(now))
  offer_all(agent.id)
end

local function others_have_room(pool, agent_id)
  local first = redis.call('ZRANGE', pool_key(pool), 0, 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    if first[i] ~= agent_id and tonumber(first[i + 1]) < FULL then return true end
  end
  return false
end

local function finish(id, attempt, agent_id, outcome, status_code, err, result, execution_ms, retry_in, max_retries, rest_ms, token, limits, excused,
    queue, lock, keep, dispatcher, again)
  local t = redis.call('HMGET', task_key(id), 'attempt', 'status', 'cancel', 'deliveries', 'sending', 'error', 'parked')
  local status, verdict, wait_ms, repeated, seen, doubted = t[2] or '', 'stale', 0, false, nil, false

  if t[1] == attempt and (status == 'sent' or status == 'running') then
    verdict = 'ok'
    local from = status
    if t[7] then unpark(id, queue_in(redis.call('HGET', task_key(id), 'spec')), agent_id, attempt) end
    local a, entry = delivery_ended(id, t[4], t[5], now, outcome, status_code, err)
    if t[3] == '1' then
      -- A cancel was promised while it ran: no result beats that.
      status = 'cancelled'
      end_record(id, from, status, now, a, entry, 'error', 'cancelled')
    elseif outcome == 'completed' then
      status = 'completed'
      local more = { a, entry, 'result', result }
      if execution_ms ~= '' then more[5], more[6] = 'execution_ms', execution_ms end
      if t[6] then more[#more + 1], more[#more + 2] = 'error', '' end -- that of an earlier attempt
      end_record(id, from, status, now, unpack(more))
      if lock ~= '' then complete_job(queue, id, lock, now, keep == '1') end
    elseif outcome == 'no_room' or outcome == 'drained' then
      -- Not the task's fault, nor its attempt.
      status = 'queued'
      local more = redis.call('HMGET', task_key(id), 'expires', 'spec')
      local expires = tonumber(more[1])
      -- Declined often, it steps aside; unless another agent may take it now.
      if not others_have_room(pool_of(queue_in(more[2])), agent_id) then wait_ms = tonumber(retry_in) end
      set_status(id, from, status, a, entry, 'not_before', integer(now + wait_ms))
      look_at(id, wait_ms > 0 and math.min(now + wait_ms, expires) or expires)
    elseif outcome == 'rejected' then
      -- Its own fault, and final. It says nothing of the agent: a burst of bad input must not take good ones out.
      status = 'failed'
      end_record(id, from, status, now, a, entry, 'error', err)
    else
      -- Of an agent that has begun anew since, or has denied the attempt, it says nothing: the slot is no longer its own.
      local agent = redis.call('ZSCORE', leases_key(agent_id), attempt) and agent_of(agent_id) or nil
      doubted = agent and agent.out == 'suspect' and not t[7] and status_code == ''
      status, wait_ms, seen = fail(id, from, attempt, agent_id, agent, doubted, excused == '1', outcome, err, a, entry, retry_in, max_retries, limits, now)
      for _, found in ipairs(seen or {}) do
        if found[1] == 'cleared' then read[found[2]] = nil end -- changed behind our back
      end
    end
  elseif t[1] == attempt and said_before(id, status, t[4], outcome, err) then
    verdict, repeated = 'ok', true
    if status == 'completed' and lock ~= '' then complete_job(queue, id, lock, now, keep == '1') end -- said by its callback, perhaps
    if not ENDS[status] then wait_ms = math.max(0, tonumber(redis.call('HGET', task_key(id), 'not_before')) - now) end
  end

  -- An attempt that was cut off may still be running at the agent: its slot is held, and its next beats tell it to stop, until the agent
  -- denies it or the deadline comes.
  local nothing = { verdict, status, integer(wait_ms), '', repeated and 1 or 0, seen }
  if again == '1' and token ~= '' then
    -- Perhaps all this was said before and our answer was lost: then the slot that it handed over is held still.
    local agent = read_agent(agent_id)
    nothing[4] = agent and handed_over(agent.queues, token, lock, id) or ''
    if nothing[4] ~= '' then return nothing end
  end
  if outcome == 'cancelled' or outcome == 'drained' then return nothing end
  if t[3] == '1' then redis.call('SREM', cancels_key(agent_id), attempt) end
  if redis.call('ZREM', leases_key(agent_id), attempt) == 0 then return nothing end
  local known = read[agent_id]
  local agent = agent_of(agent_id)
  if not agent then return nothing end
  if known then agent.in_flight = agent.in_flight - 1 end -- else read without it

  -- What the outcome says of the agent: refused, it gets nothing until its next beat; resting, nothing for a while.
  if doubted or (outcome == 'unreachable' and agent.out == '') then
    agent.out = 'refused'
    redis.call('HSET', agent_key(agent_id), 'out', agent.out)
    if doubted then watch(agent_id, now) end -- and is dead, should it have been silent for that long
  end
  local answered = agent.out == 'suspect' and (status_code ~= '' or outcome == 'completed' or (t[7] and outcome == 'failed'))
  if answered then is_there(agent) end
  if rest_ms ~= '0' then
    agent.rest = math.max(agent.rest, now + tonumber(rest_ms))
    redis.call('HSET', agent_key(agent_id), 'rest', integer(agent.rest))
    watch(agent_id, agent.rest)
  end

  local well = outcome == 'completed' and agent.streak and completed_one(agent, attempt, now)
  if well then
    nothing[6] = { { 'back', agent_id } }
    offer_all(agent_id)
  end

  -- The slot: the best head of the agent's queues is next, and of that queue's agents the one least loaded, mostly this one.
  agent.turn = turn
  if agent.out == 'dead' then return nothing end -- it has left its pools
  local own = score_of(agent, now)
  local job, next_queue
  if own < FULL and token ~= '' then job, next_queue = take_next(agent, lock) end
  if not job then
    local waits = own < FULL and token == '' and best_queue(agent.queues)
    if waits then -- its dispatcher gives the slot up, to another one or another queue
      place(agent, own)
      wake(waits)
      return nothing
    end
    -- Idle: it waits from now on.
    redis.call('HSET', agent_key(agent_id), 'turn', integer(turn))
    place(agent, own)
    return nothing
  end
  local top, score = next_agent(pool_of(next_queue))
  local other, slot
  if top and top ~= agent_id and score < own then
    other = agent_of(top)
    if not other then redis.call('ZREM', pool_key(pool_of(next_queue)), top) end -- its record has expired
  end
  if other then
    place(agent, own)
    slot = send_or_hold(other, next_queue, job, token, dispatcher, now, turn, false)
    local more = best_queue(agent.queues)
    if more then wake(more) end -- its own slot is free
  else
    -- One out, one in: its place is what it was.
    slot = send_or_hold(agent, next_queue, job, token, dispatcher, now, turn, true)
    if rest_ms ~= '0' or outcome == 'unreachable' or doubted or answered or well then place(agent, score_of(agent, now)) end
  end
  return { verdict, status, integer(wait_ms), slot, 0, nothing[6] }
end

return for_each(19, finish, write_lists)
