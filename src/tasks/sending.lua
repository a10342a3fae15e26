-- The moment at which an attempt begins: from then on only this attempt may end the task. Included by what begins one.
--- @include "record.lua"
--- @include "../queues/jobs.lua"

-- What it reads of a record, in this order.
local function record_of(id)
  return redis.call('HMGET', task_key(id), 'status', 'not_before', 'expires', 'cancel', 'deliveries', 'spec', 'parameters', 'metadata', 'traceparent', 'retries', 'avoid',
    'created', 'attempt', 'sending')
end

local function attempt_of(now, token) return integer(now) .. '.' .. token end
local function timeout_in(spec) return tonumber(string.match(spec, '^%d+')) end

-- Marks a record, as read, as sent to an agent; the caller leases the slot for the attempt. `before`: the attempt before it, or nil.
-- Returns {'go', attempt, delivery number, spec, parameters, metadata, traceparent, retries, ms since it could go}
local function mark_sent(id, t, status, before, not_before, agent, name, token, dispatcher, now)
  local attempt, n, deadline = attempt_of(now, token), tonumber(t[5] or 0) + 1, now + timeout_in(t[6])
  local sending = table.concat({ agent, name, integer(now), integer(deadline), dispatcher }, '\t')
  about[id] = { n, agent, '' }
  if n == 1 then set_status(id, status, 'sent', 'attempt', attempt, 'deliveries', n, 'sending', sending, 'started', integer(now))
  else
    set_status(id, status, 'sent', 'attempt', attempt, 'deliveries', n, 'sending', sending)
    -- Remembered, so that what it says late is known for its own.
    if before then redis.call('HSET', task_key(id), 't' .. (n - 1), before) end
    if n - 1 > MAX_DELIVERIES_KEPT then redis.call('HDEL', task_key(id), 't' .. (n - 1 - MAX_DELIVERIES_KEPT)) end
  end
  -- If nobody ends it, its job comes round again; should even the job be lost, the sweeper sees it here. (A young one has the sweeper's
  -- first look still before it.)
  if now - tonumber(t[12]) > CONFIRM_MS - 1000 then redis.call('ZADD', TIMERS, 'LT', integer(deadline + OVERDUE_MS), id) end
  return { 'go', attempt, n, t[6], t[7], t[8], t[9] or '', t[10] or '0', integer(now - not_before) }
end

-- Begins the attempt of a job that was just taken, at an agent as read of which a slot is free, in the same step; or holds the slot for it, where that needs a
-- closer look (begin.lua): it has ended, was under way, comes too early, or had better go elsewhere. `in_place`: one slot was freed for it just now, so
-- the agent's place among the others is what it was.
-- Returns what goes to the dispatcher: the slot with its job, and 'go' … behind it when it has begun.
local function send_or_hold(agent, queue, job, token, dispatcher, now, turn, in_place)
  local readable, t = pcall(record_of, job)
  if not readable then t = {} end -- begin.lua fails with it alone
  local status, not_before = t[1], tonumber(t[2])
  local begins = status and not ENDS[status] and status ~= 'sent' and status ~= 'running' and not_before <= now and not expired(t[3], now)
    and not (t[11] and is_avoided(t[11], agent.id))
  local member = begins and attempt_of(now, token) or 'h.' .. token
  local ends = begins and now + timeout_in(t[6]) + LATE_MS or now + HOLD_MS
  if in_place then
    redis.call('ZADD', leases_key(agent.id), integer(ends), member)
    watch(agent.id, ends)
    agent.in_flight = agent.in_flight + 1
  else lease(agent, member, ends, now, turn) end
  local reply = slot_reply(agent, member, queue, job)
  reply[9] = begins and mark_sent(job, t, status, t[13] or nil, not_before, agent.id, agent.name, token, dispatcher, now) or nil
  return reply
end

-- The job of these queues that is locked with a token; nil when there is none. For a caller that has not heard what was said to it: only then, as it reads all that is in hand.
local MAX_IN_HAND = 5000
local AT_ONCE = 500
local function locked_with(queues, lock, but)
  for _, queue in ipairs(queues) do
    local ids = redis.call('LRANGE', bull_key(queue, 'active'), 0, MAX_IN_HAND)
    for from = 1, #ids, AT_ONCE do
      local locks = {}
      for i = from, math.min(from + AT_ONCE - 1, #ids) do locks[#locks + 1] = lock_key(queue, ids[i]) end
      for i, held in ipairs(redis.call('MGET', unpack(locks))) do
        if held == lock and ids[from + i - 1] ~= but then return ids[from + i - 1], queue end
      end
    end
  end
end
-- The slot that such a job was handed over with, or nil when it is held no more. Its attempt may have begun: begun once more under the same token (begin.lua), it is the same.
local function handed_over(queues, token, lock, but)
  local id, queue = locked_with(queues, lock, but)
  if not id then return nil end
  redis.call('PEXPIRE', lock_key(queue, id), JOB_LOCK_MS) -- it is renewed from now on, and not at once
  local hold, t = 'h.' .. token, redis.pcall('HMGET', task_key(id), 'status', 'attempt', 'sending')
  if t[1] == 'sent' and string.sub(t[2], -#token) == token then
    local agent = read_agent(agent_in(t[3]))
    return agent and slot_reply(agent, hold, queue, id)
  end
  local pinned = pinned_in(pool_of(queue))
  for _, agent_id in ipairs(pinned and { pinned } or redis.call('ZRANGE', pool_key(pool_of(queue)), 0, -1)) do
    if redis.call('ZSCORE', leases_key(agent_id), hold) then return slot_reply(read_agent(agent_id), hold, queue, id) end
  end
end
