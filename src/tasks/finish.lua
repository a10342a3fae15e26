-- Ends an attempt: the record by compare-and-set, then the slot, which is freed or leased again for the next task at once.
-- KEYS[1] base
-- ARGV[1] id  [2] attempt  [3] agent  [4] outcome  [5] status code or ''  [6] error or ''  [7] result  [8] execution ms or ''
-- ARGV[9] if it is retried, after so many ms  [10] the agent rests so many ms  [11] retention of completed and cancelled, ms
-- ARGV[12] of failed and timed-out, ms  [13] dispatcher  [14] its attempts in flight
-- ARGV[15] token for the next hold, or '' when the dispatcher wants none  [16] how long it is held, ms
-- Returns {verdict, status, ms until it may go again, slot or ''}
--   verdict 'ok': the outcome counts · 'stale': another attempt or an end came first, nothing changed; status says what is
-- Running twice (a resent command) finds the attempt gone: nothing is changed and nothing leased.
--- @include "record.lua"

local id, attempt, agent, outcome, status_code, err = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now = now_ms()
local t = redis.call('HMGET', task_key(id), 'attempt', 'status', 'cancel', 'retries', 'max_retries', 'deliveries', 'avoid', 'expires')
local status, verdict, wait_ms = t[2] or '', 'stale', 0

if t[1] == attempt and (status == 'sent' or status == 'running') then
  verdict = 'ok'
  local from = status
  end_delivery(id, t[6], now, outcome, status_code, err)
  if t[3] == '1' then
    -- A cancel was promised while it ran: no result beats that.
    status = 'cancelled'
    finish_record(id, from, status, now, tonumber(ARGV[11]), { 'error', 'cancelled' })
  elseif outcome == 'completed' then
    status = 'completed'
    finish_record(id, from, status, now, tonumber(ARGV[11]), { 'result', ARGV[7], 'execution_ms', ARGV[8], 'error', '' })
  elseif outcome == 'no_room' or outcome == 'drained' then
    -- Not the task's fault, nor its attempt.
    status = 'queued'
    count('redelivered', outcome)
    redis.call('HSET', task_key(id), 'attempt', '', 'not_before', integer(now))
    redis.call('HDEL', task_key(id), 'deadline', 'dispatcher')
    set_status(id, from, status)
    look_at(id, tonumber(t[8]))
  elseif outcome ~= 'rejected' and tonumber(t[4] or 0) < tonumber(t[5]) then
    status = 'retrying'
    wait_ms = tonumber(ARGV[9])
    local avoid = t[7] or ' '
    if not string.find(avoid, ' ' .. agent .. ' ', 1, true) then
      local _, known = string.gsub(avoid, '%S+', '')
      avoid = (known >= MAX_AVOIDED and ' ' or avoid) .. agent .. ' '
    end
    redis.call('HSET', task_key(id), 'attempt', '', 'retries', tonumber(t[4] or 0) + 1, 'not_before', integer(now + wait_ms), 'error', err, 'avoid', avoid)
    redis.call('HDEL', task_key(id), 'deadline', 'dispatcher')
    set_status(id, from, status)
    look_at(id, now + wait_ms)
    count('retried')
  else
    status = outcome == 'timeout' and 'timeout' or 'failed'
    finish_record(id, from, status, now, tonumber(ARGV[12]), { 'error', err })
  end
end

-- What the outcome says of the agent: refused, it gets nothing until its next beat; resting, nothing for a while.
if outcome == 'unreachable' and redis.call('HGET', agent_key(agent), 'out') == '' then redis.call('HSET', agent_key(agent), 'out', 'refused') end
local rest = tonumber(ARGV[10])
if rest > 0 and redis.call('EXISTS', agent_key(agent)) == 1 then
  redis.call('HSET', agent_key(agent), 'rest', integer(now + rest))
  watch(agent, now + rest)
end

-- The slot. An attempt that was cut off may still be running at the agent: it is held until the agent denies it or the deadline comes.
redis.call('SREM', cancels_key(agent), attempt)
if outcome == 'cancelled' or outcome == 'drained' then return { verdict, status, integer(wait_ms), '' } end
if redis.call('ZREM', leases_key(agent), attempt) == 0 or not rescore(agent, now) then return { verdict, status, integer(wait_ms), '' } end

local queue = best_queue(redis.call('HGET', agent_key(agent), 'pools'))
if not queue then return { verdict, status, integer(wait_ms), '' } end
-- A dispatcher that has far more in hand than another lets that one have it, so that a newly started one gets its share.
local least = redis.call('ZRANGE', DISPATCHERS, 0, 0, 'WITHSCORES')
if ARGV[15] == '' or (least[1] and least[1] ~= ARGV[13] and tonumber(least[2]) * 2 + 4 < tonumber(ARGV[14])) then
  wake(queue)
  return { verdict, status, integer(wait_ms), '' }
end
local chosen = next_agent(pool_of(queue))
if not chosen then return { verdict, status, integer(wait_ms), '' } end
local hold = 'h.' .. ARGV[15]
lease(chosen, hold, now + tonumber(ARGV[16]), now)
return { verdict, status, integer(wait_ms), slot_reply(chosen, hold, queue) }
