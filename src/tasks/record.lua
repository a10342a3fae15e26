-- The record of a task: one hash, changed only here, by scripts that compare before they set. Included by them.
-- Fields: status queue pin agent task_type priority timeout max_retries retry_delay backoff parameters metadata created
--   not_before expires started ended attempt (the one that may speak; '' when none) deadline dispatcher deliveries retries
--   redeliveries a1 a2 … (the deliveries) avoid (agents that failed it) result error execution_ms cancel unconfirmed
--   retry_of retried_as traceparent
-- Every record stands in tasks:<status> (by id, so by age) and in `timers`, at the time when someone must look at it next.
--- @include "../registry/slots.lua"

local MAX_REDELIVERIES = 5   -- a task that has taken so many dispatchers down is not given another
local MAX_DELIVERIES_KEPT = 100
local MAX_AVOIDED = 8

local ENDS = { completed = true, failed = true, timeout = true, cancelled = true }

local function look_at(id, at) redis.call('ZADD', TIMERS, integer(at), id) end

local function count(...)
  redis.call('HINCRBY', STATS, table.concat({ ... }, ':'), 1)
end

local function set_status(id, from, to)
  redis.call('HSET', task_key(id), 'status', to)
  if from then redis.call('ZREM', tasks_key(from), id) end
  redis.call('ZADD', tasks_key(to), 0, id)
end

-- The end of a task; it has only one. `keep_ms`: how long its record stays.
local function finish_record(id, from, to, now, keep_ms, fields)
  set_status(id, from, to)
  redis.call('HSET', task_key(id), 'ended', integer(now), 'attempt', '', unpack(fields))
  redis.call('HDEL', task_key(id), 'unconfirmed', 'deadline', 'dispatcher')
  look_at(id, now + keep_ms)
  count('ended', to)
end

-- A delivery is kept as text with tabs between: agent, name, sent at, ended at, outcome, status code, error. Names hold no control
-- characters; the error comes last and may hold anything.
local function note_delivery(id, n, agent, name, now)
  redis.call('HSET', task_key(id), 'a' .. n, table.concat({ agent, name, integer(now) }, '\t'))
  if n > MAX_DELIVERIES_KEPT then redis.call('HDEL', task_key(id), 'a' .. (n - MAX_DELIVERIES_KEPT)) end
end
local function end_delivery(id, n, now, outcome, status_code, err)
  local begun = redis.call('HGET', task_key(id), 'a' .. n)
  if begun then
    redis.call('HSET', task_key(id), 'a' .. n, table.concat({ begun, integer(now), outcome, status_code, err }, '\t'))
  end
  count('attempts', outcome)
end

-- Does a client still wait for a start, in vain?
local function expired(expires, now) return now >= tonumber(expires) end
