-- The record of a task: one hash, changed only here, by scripts that compare before they set. Included by them.
-- Fields: status spec parameters metadata created not_before expires started ended attempt (the last begun: while the status is sent or
--   running, only it may speak) deliveries sending (the last delivery) a1 a2 … (those ended) t1 t2 … (the ids of attempts before the
--   last) retries redeliveries avoid (agents that failed it) failed_by (those of them that count for `poison`) refunds (failed attempts that
--   cost it nothing: the agent was sick) poison result error execution_ms cancel cancel_by (when it ends cancelled, whoever has it) parked (its
--   result comes by callback: 1, or until when one that we could not hear in time may still be told) progress progress_data (progress.lua) late l1 … r1 … (late.lua) callback (who is told of its end) retry_of
--   retried_as traceparent waited_for (what it waited for when it expired: a reason of contracts/explain.ts) history (its changes of status, a
--   line each: event id, status, delivery, agent) schedule (of which it is a run, and when that was due, with a tab between)
-- `spec` is what never changes, as text with tabs between: timeout ms, max_retries, retry delay ms, backoff, priority, pinned to,
--   task_type, queue. One field instead of eight: it is written and read by every task.
-- Every record stands in tasks:<status> (by id, so by age); one that is sent or running stays in tasks:queued, as it is there only for a
-- moment, and BullMQ's list of active jobs names it, or the set of those put aside. One that has not ended stands in `timers` too, at the time when someone
-- must look at it next, or sooner: a look that comes too soon only sets the timer right.
--- @include "../registry/slots.lua"

local MAX_REDELIVERIES = 5   -- a task that has taken so many dispatchers down is not given another
local MAX_DELIVERIES_KEPT = 100
local MAX_AVOIDED = 8

-- How long a task waits before its nth redelivery.
local function redelivery_ms(n) return math.min(1000 * 2 ^ (n - 1), 30000) end

local ENDS = { completed = true, failed = true, timeout = true, cancelled = true }

local CONFIRM_MS = 5000      -- a task whose job is not in its queue so long after its submit is given one
local LATE_MS = 1000         -- a dispatcher lets go of an attempt at its deadline, and may say so until so long after it
local PARKED = '1'
local PARKED_MS = 60000      -- a parked job stays locked so long behind its attempt's deadline, at which the sweeper ends it
local CANCEL_MS = 3000       -- a cancelled task that its dispatcher has not ended so long after is ended by the sweeper
local PARKED_OVER_MS = 3000  -- whoever ends a parked attempt has so long to move its job; else it comes round by itself
local OVERDUE_MS = 30000     -- an attempt that nobody has ended so long after its deadline is lost, and its job too

local EVENTS_KEPT = 50000    -- of an agent type, about
local MAX_HISTORY = 8000     -- bytes; of a task delivered more often the oldest changes are forgotten
local MAX_EVENT_ERROR = 500  -- bytes; the record has it whole

-- Counts for /metrics of what only a script sees; callers count the rest, and write it once a second.
local function count(what, n) redis.call('HINCRBY', STATS, what, n or 1) end

--- @include "webhooks/outbox.lua"

local INDEX = { sent = 'queued', running = 'queued' }
local function index_of(status) return tasks_key(INDEX[status] or status) end

-- What is to be written to the lists: the tasks of one call share the commands. `moved` is by id: {index it leaves or nil, one it joins}.
local moved, looks, ended = {}, {}, {}

local function look_at(id, at)
  looks[#looks + 1] = integer(at)
  looks[#looks + 1] = id
end

-- The log: a stream of what happens to the tasks of a type, told to whoever listens as well. An event is text with tabs between:
-- task, what, delivery, agent, outcome, error; of `progress` the last two are '' and a JSON text.
local news = {}
local function tell(id, what, n, agent, outcome, last)
  local text = table.concat({ id, what, n, agent, outcome, last }, '\t')
  local event = redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', text)
  news[#news + 1] = event .. '\t' .. text
  return event
end
local function brief(err)
  if #err > MAX_EVENT_ERROR then err = string.gsub(string.sub(err, 1, MAX_EVENT_ERROR), '[\192-\255][\128-\191]*$', '') end
  return (string.gsub(err, '%c', ' '))
end

-- The delivery that the next change of a task's status is about: {number, agent, outcome}.
local NO_DELIVERY = { '', '', '' }
local about = {}

-- Changes a record's status, with further fields, its index, and tells of it.
local function set_status(id, from, to, ...)
  local d, err = about[id] or NO_DELIVERY, ''
  about[id] = nil
  for i = 1, select('#', ...), 2 do
    if select(i, ...) == 'error' then err = brief((select(i + 1, ...))) end
  end
  local event = tell(id, to, d[1], d[2], d[3], err)
  local history = (from and redis.call('HGET', task_key(id), 'history') or '') .. table.concat({ event, to, d[1], d[2] }, ' ') .. '\n'
  if #history > MAX_HISTORY then history = string.match(history, '\n(.*)', #history - MAX_HISTORY) end
  redis.call('HSET', task_key(id), 'status', to, 'history', history, ...)
  local old, new = from and index_of(from), index_of(to)
  if moved[id] then moved[id][2] = new
  elseif old ~= new then moved[id] = { old, new } end
end

-- The end of a task; it has only one. How long its record stays is for `trim` to say.
local function end_record(id, from, to, now, ...)
  set_status(id, from, to, 'ended', integer(now), ...)
  ended[#ended + 1] = id
end

-- The last thing done by each script that has changed a status, told of something or said when to look.
local function write_lists()
  local leave, join = {}, {}
  for id, m in pairs(moved) do
    local old, new = m[1], m[2]
    if old then
      leave[old] = leave[old] or { 'ZREM', old }
      table.insert(leave[old], id)
    end
    join[new] = join[new] or { 'ZADD', new }
    table.insert(join[new], '0')
    table.insert(join[new], id)
  end
  for _, command in pairs(leave) do redis.call(unpack(command)) end
  for _, command in pairs(join) do redis.call(unpack(command)) end
  if looks[1] then redis.call('ZADD', TIMERS, unpack(looks)) end
  if ended[1] then
    redis.call('ZREM', TIMERS, unpack(ended))
    put_webhooks(ended, now_ms())
  end
  if news[1] then publish(events_channel(), table.concat(news, '\n')) end
end

-- A parked attempt is over. Its job is moved next, under the attempt's lock; or comes round by itself when that has run out.
local function unpark(id, queue, agent, attempt)
  redis.call('HDEL', task_key(id), 'parked')
  redis.call('HDEL', parked_key(agent), attempt)
  bring_back(queue, id)
  redis.call('PEXPIRE', lock_key(queue, id), PARKED_OVER_MS)
end

-- An attempt at an agent is to stop: some living dispatcher other than `but` sends that to it. Perhaps: the agent's beats are told too.
local function tell_to_stop(id, attempt, agent, but)
  local at = redis.call('HMGET', agent_key(agent), 'host', 'port', 'name', 'salt')
  if not at[1] then return end
  local message = table.concat({ 'stop', id, attempt, agent, at[1], at[2], at[3], salts_of(at[4]), integer((now_ms())) }, '\t')
  for _, dispatcher in ipairs(redis.call('ZRANGE', DISPATCHERS, 0, 8)) do
    if dispatcher ~= but and publish(wake_channel(dispatcher), message) > 0 then return end
  end
end

local function queue_in(spec) return string.match(spec, '[^\t]*$') end

-- `avoid` is text with a space before and behind each agent.
local function is_avoided(avoid, agent) return string.find(avoid, ' ' .. agent .. ' ', 1, true) ~= nil end
-- The first agent of a pool that has room and has not failed the task before; nil when there is none. Among so many there is one, if at all.
local function other_agent(pool, avoid)
  local first = redis.call('ZRANGE', pool_key(pool), 0, MAX_AVOIDED, 'WITHSCORES')
  for i = 1, #first, 2 do
    local agent = tonumber(first[i + 1]) < FULL and not is_avoided(avoid, first[i]) and read_agent(first[i])
    if agent then return agent end
  end
end

-- `sending` is text with tabs between: agent, its name, sent at, deadline, dispatcher. Names hold no control characters.
local function agent_in(sending) return string.match(sending, '^[^\t]*') end
local function sent_in(sending) return tonumber(string.match(sending, '^[^\t]*\t[^\t]*\t(%d+)')) end
local function deadline_in(sending) return tonumber(string.match(sending, '^[^\t]*\t[^\t]*\t%d+\t(%d+)')) end
local function dispatcher_in(sending) return string.match(sending, '[^\t]*$') end

-- A delivery that has ended is kept as: agent, name, sent at, ended at, outcome, status code, error. The error may hold anything.
-- The field and value of a delivery that ends.
local function delivery_ended(id, n, sending, now, outcome, status_code, err)
  n = tonumber(n)
  about[id] = { n, agent_in(sending), outcome }
  if n > MAX_DELIVERIES_KEPT then redis.call('HDEL', task_key(id), 'a' .. (n - MAX_DELIVERIES_KEPT)) end
  return 'a' .. n, table.concat({ string.match(sending, '^[^\t]*\t[^\t]*\t%d+'), integer(now), outcome, status_code, err }, '\t')
end

-- Does it still wait for a start, in vain?
local function expired(expires, now) return now >= tonumber(expires) end

-- What a task has waited for in vain until it expired: a reason of contracts/explain.ts. Dispatchers look once a second, and note when they
-- come back from having been away.
local DISPATCHER_GONE_MS = 5000
local function waited_for(pool, status, not_before, expires)
  if tonumber(not_before) >= tonumber(expires) then return status == 'pending' and 'not_due' or 'retry_delay' end
  local sweep, pinned = redis.call('HMGET', SWEEP, 'tick', 'grace'), pinned_in(pool)
  if expires - tonumber(sweep[1] or 0) > DISPATCHER_GONE_MS or tonumber(sweep[2] or 0) >= tonumber(expires) then return 'no_dispatcher' end
  local score
  if pinned then score = pinned_score(pinned) else score = tonumber(redis.call('ZRANGE', pool_key(pool), 0, 0, 'WITHSCORES')[2]) end
  if not score then return pinned and 'pinned_agent_absent' or 'no_agent_alive' end
  return score >= UNUSABLE and 'no_agent_usable' or score >= FULL and 'waiting_for_slot' or 'behind_others'
end
-- The end of a task that has waited too long.
local function end_expired(id, from, spec, not_before, expires, now)
  end_record(id, from, 'timeout', now, 'error', 'expired', 'waited_for', waited_for(pool_of(queue_in(spec)), from, not_before, expires))
end

-- The end of a task whose cancel has not been obeyed in time: the dispatcher that has it is dead or stands still. The slot stays taken until
-- the agent, told now and by its beats, says that it has stopped, or the deadline has come.
local function end_cancelled(id, status, attempt, n, sending, now)
  local agent = agent_in(sending)
  local a, entry = delivery_ended(id, n, sending, now, 'cancelled', '', 'its dispatcher did not end it in time')
  end_record(id, status, 'cancelled', now, a, entry, 'error', 'cancelled')
  watch(agent, deadline_in(sending) + LATE_MS + 1)
  tell_to_stop(id, attempt, agent, dispatcher_in(sending))
  count('attempts:cancelled')
  count('ended:cancelled')
end
