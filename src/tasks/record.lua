-- The record of a task: one hash, changed only here, by scripts that compare before they set. Included by them.
-- Fields: status queue pin agent task_type priority timeout max_retries retry_delay backoff parameters metadata created
--   not_before expires started ended attempt (the one that may speak; '' when none) deadline dispatcher deliveries retries
--   redeliveries sending (the delivery under way) a1 a2 … (those ended) avoid (agents that failed it) result error execution_ms
--   cancel retry_of retried_as traceparent
-- Every record stands in tasks:<status> (by id, so by age) and in `timers`, at the time when someone must look at it next, or sooner:
-- a look that comes too soon only sets the timer right.
--- @include "../registry/slots.lua"

local MAX_REDELIVERIES = 5   -- a task that has taken so many dispatchers down is not given another
local MAX_DELIVERIES_KEPT = 100
local MAX_AVOIDED = 8

local ENDS = { completed = true, failed = true, timeout = true, cancelled = true }

local CONFIRM_MS = 5000      -- a task whose job is not in its queue so long after its submit is given one
local OVERDUE_MS = 30000     -- an attempt that nobody has ended so long after its deadline is lost, and its job too

local function look_at(id, at) redis.call('ZADD', TIMERS, integer(at), id) end

-- Counts for /metrics of what only a script sees; callers count the rest, and write it once a second.
local function count(what) redis.call('HINCRBY', STATS, what, 1) end

-- Changes a record's status, with further fields, and its index.
local function set_status(id, from, to, ...)
  redis.call('HSET', task_key(id), 'status', to, ...)
  if from then redis.call('ZREM', tasks_key(from), id) end
  redis.call('ZADD', tasks_key(to), 0, id)
end

-- The end of a task; it has only one. `keep_ms`: how long its record stays.
local function end_record(id, from, to, now, keep_ms, ...)
  set_status(id, from, to, 'ended', integer(now), 'attempt', '', ...)
  look_at(id, now + keep_ms)
end

-- A delivery is kept as text with tabs between: agent, name, sent at, ended at, outcome, status code, error. Names hold no control
-- characters; the error comes last and may hold anything.
local function delivery_sent(agent, name, now) return agent .. '\t' .. name .. '\t' .. integer(now) end
-- The field and value of a delivery that ends.
local function delivery_ended(id, n, sending, now, outcome, status_code, err)
  n = tonumber(n)
  if n > MAX_DELIVERIES_KEPT then redis.call('HDEL', task_key(id), 'a' .. (n - MAX_DELIVERIES_KEPT)) end
  return 'a' .. n, table.concat({ sending, integer(now), outcome, status_code, err }, '\t')
end

-- Does it still wait for a start, in vain?
local function expired(expires, now) return now >= tonumber(expires) end
