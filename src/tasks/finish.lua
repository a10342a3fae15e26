-- Ends an attempt: the record by compare-and-set, then the slot, which is freed or leased again for the next task at once.
-- KEYS[1] base
-- ARGV[1] id  [2] attempt  [3] agent  [4] outcome  [5] status code or ''  [6] error or ''  [7] result  [8] execution ms or ''
-- ARGV[9] if it is retried, after so many ms  [10] the agent rests so many ms  [11] retention of completed and cancelled, ms
-- ARGV[12] of failed and timed-out, ms  [13] dispatcher  [14] its attempts in flight
-- ARGV[15] token for the next hold, or '' when the dispatcher wants none  [16] how long it is held, ms
-- Returns {verdict, status, ms until it may go again, slot or ''}
--   verdict 'ok': the outcome counts · 'stale': another attempt or an end came first, nothing changed; status says what is
-- Running twice (a repeated command) finds the attempt gone: nothing is changed, and a slot handed over the first time is taken back.
--- @include "record.lua"

-- Perhaps all this was said before and our answer was lost: then the slot it handed over is held for nobody, at this agent or one that
-- shares a pool with it.
local function take_back(hold, now)
  for pool in string.gmatch(redis.call('HGET', agent_key(ARGV[3]), 'pools') or '', '%S+') do
    for _, id in ipairs(redis.call('ZRANGE', pool_key(pool), 0, -1)) do
      if redis.call('ZREM', leases_key(id), hold) == 1 then
        if rescore(id, now) then offer(id) end
        return
      end
    end
  end
end

local id, attempt, agent_id, outcome, err = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local now, turn = now_ms()
local t = redis.call('HMGET', task_key(id), 'attempt', 'status', 'cancel', 'retries', 'max_retries', 'deliveries', 'avoid', 'expires', 'sending')
local status, verdict, wait_ms = t[2] or '', 'stale', 0

if t[1] == attempt and (status == 'sent' or status == 'running') then
  verdict = 'ok'
  local from = status
  local a, entry = delivery_ended(id, t[6], t[9], now, outcome, ARGV[5], err)
  if t[3] == '1' then
    -- A cancel was promised while it ran: no result beats that.
    status = 'cancelled'
    end_record(id, from, status, now, tonumber(ARGV[11]), a, entry, 'error', 'cancelled')
  elseif outcome == 'completed' then
    status = 'completed'
    end_record(id, from, status, now, tonumber(ARGV[11]), a, entry, 'result', ARGV[7], 'execution_ms', ARGV[8], 'error', '')
  elseif outcome == 'no_room' or outcome == 'drained' then
    -- Not the task's fault, nor its attempt.
    status = 'queued'
    set_status(id, from, status, a, entry, 'attempt', '', 'not_before', integer(now))
    look_at(id, tonumber(t[8]))
  elseif outcome ~= 'rejected' and tonumber(t[4] or 0) < tonumber(t[5]) then
    status = 'retrying'
    wait_ms = tonumber(ARGV[9])
    local avoid = t[7] or ' '
    if not string.find(avoid, ' ' .. agent_id .. ' ', 1, true) then
      local _, known = string.gsub(avoid, '%S+', '')
      avoid = (known >= MAX_AVOIDED and ' ' or avoid) .. agent_id .. ' '
    end
    set_status(id, from, status, a, entry, 'attempt', '', 'retries', tonumber(t[4] or 0) + 1, 'not_before', integer(now + wait_ms),
      'error', err, 'avoid', avoid)
    look_at(id, math.min(now + wait_ms, tonumber(t[8])))
  else
    status = outcome == 'timeout' and 'timeout' or 'failed'
    end_record(id, from, status, now, tonumber(ARGV[12]), a, entry, 'error', err)
  end
end

-- An attempt that was cut off may still be running at the agent: its slot is held, and its next beats tell it to stop, until the agent
-- denies it or the deadline comes.
local nothing = { verdict, status, integer(wait_ms), '' }
if verdict == 'stale' and ARGV[15] ~= '' then take_back('h.' .. ARGV[15], now) end
if outcome == 'cancelled' or outcome == 'drained' then return nothing end
if t[3] == '1' then redis.call('SREM', cancels_key(agent_id), attempt) end
if redis.call('ZREM', leases_key(agent_id), attempt) == 0 then return nothing end
local agent = read_agent(agent_id)
if not agent then return nothing end

-- What the outcome says of the agent: refused, it gets nothing until its next beat; resting, nothing for a while.
if outcome == 'unreachable' and agent.out == '' then
  agent.out = 'refused'
  redis.call('HSET', agent_key(agent_id), 'out', agent.out)
end
if ARGV[10] ~= '0' then
  agent.rest = math.max(agent.rest, now + tonumber(ARGV[10]))
  redis.call('HSET', agent_key(agent_id), 'rest', integer(agent.rest))
  watch(agent_id, agent.rest)
end

-- The slot: the best head of the agent's queues is next, and of that queue's agents the one least loaded, mostly this one.
local own = score_of(agent, now)
local queue = own < FULL and best_queue(agent.pools)
if not queue then
  place(agent, own)
  return nothing
end
-- A dispatcher that has far more in hand than another lets that one have it, so that a newly started one gets its share.
-- Looked at now and then: the balance need not be quick.
local least = turn % 8 == 0 and redis.call('ZRANGE', DISPATCHERS, 0, 0, 'WITHSCORES') or {}
if ARGV[15] == '' or (least[1] and least[1] ~= ARGV[13] and tonumber(least[2]) * 2 + 4 < tonumber(ARGV[14])) then
  place(agent, own)
  wake(queue)
  return nothing
end
local top, score = next_agent(pool_of(queue))
if top and top ~= agent_id and score < own then
  place(agent, own)
  agent = read_agent(top)
end
local hold = 'h.' .. ARGV[15]
lease(agent, hold, now + tonumber(ARGV[16]), now, turn)
return { verdict, status, integer(wait_ms), slot_reply(agent, hold, queue) }
