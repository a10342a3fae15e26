-- Why a task is where it is, and which agents it may go to: all of one moment, by the functions that decide. Writes nothing.
-- KEYS[1] base   ARGV[1] id  [2] at most so many agents told of  [3] at most so many others read, to be counted
-- Returns nil when unknown, else
--   {now, fields of the record (as FIELDS), its last two deliveries, job, line, queue, agents, counts}
--   job      'line', 'delayed', 'held' (somebody has its lock), 'loose' (nobody has), 'none'
--   line     '' when it does not stand in line, else {how many came back before it, {priority, how many, …} before it, how many of a higher
--            priority wait in other queues of its agents}
--   queue    {name, waiting, delayed, active}
-- and of a task that waits for an agent, else '':
--   agents   each {id, name, status, in flight, max_concurrency, reason, the ms until which it rests, 1 when it failed the task before,
--            1 when it is on trial, 2 when that is as it was sick, 3 when it is a suspect}; those that are next first
--   counts   {agents known, 1 when one that is dead could do it, the ms at which the first rest ends (of those that are sick, when no other
--            rests) or '', reason, how many, …}
--- @include "record.lua"
--- @include "../registry/health.lua"

local FIELDS = { 'status', 'created', 'not_before', 'expires', 'ended', 'deliveries', 'sending', 'retries', 'redeliveries', 'avoid', 'cancel', 'parked',
  'error', 'waited_for', 'poison', 'postponed', 'spec' }
local WAITS = { pending = true, queued = true, retrying = true }
local MAX_SCANNED = 1000 -- agents without a place in the pool are looked for among so many
local MAX_BUSY = 20      -- agents whose other queues are looked at
local MAX_QUEUES = 64

local id, most, most_counted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local t = redis.call('HMGET', task_key(id), unpack(FIELDS))
if not t[1] then return nil end
local fields, spec, avoid = {}, t[#FIELDS], t[10] or ''
for i = 1, #FIELDS do fields[i] = t[i] or '' end
local n = tonumber(t[6] or 0)
local last = redis.call('HMGET', task_key(id), 'a' .. n, 'a' .. (n - 1))
local queue = queue_in(spec)
local pool = pool_of(queue)

local back, before, priority = before_in_line(queue, id)
local job = back and 'line'
  or is_delayed(queue, id) and 'delayed'
  or redis.call('EXISTS', lock_key(queue, id)) == 1 and 'held'
  or has_job(queue, id) and 'loose' or 'none'
local answer = { now, fields, { last[1] or '', last[2] or '' }, job, '', { queue, waiting(queue), delayed(queue), active(queue) }, '', '' }
if not WAITS[t[1]] then return answer end

-- Why an agent of such a score gets the task or not; without a score it is not in the pool.
local function reason_of(score, out, status, told, trial)
  if not score then return told == 'dead' and 'dead' or pinned_in(pool) and 'not_the_pinned_agent' or 'lacks_capability' end
  if score < FULL then return 'eligible' end
  if score < UNUSABLE then return 'at_capacity' end
  if told == 'dead' then return 'dead' end
  if out == 'refused' then return 'refused' end
  if told == 'unreachable' then return 'unreachable' end
  if status == 'draining' or status == 'unhealthy' then return status end
  if trial == 'sick' then return 'sick' end
  return 'resting' -- or it was: an end of a rest is noticed within a second
end

local agents, counts, busy = {}, {}, {}
local first_rest, first_try, dead_capable = '', '', 0
-- Tells of an agent, or only counts it; one whose record has expired is passed over.
local absence = our_absence()
local function consider(agent_id, score, count_only)
  local a = redis.call('HMGET', agent_key(agent_id), 'seen', 'ttl', 'out', 'status', 'rest', 'pools', 'name', 'max', 'trial')
  if not a[1] then return end
  local told, rest = status_of(a[1], a[2], a[3], a[4], now, a[9] == 'sick', absence), tonumber(a[5])
  local reason = reason_of(score, a[3], a[4], told, a[9])
  counts[reason] = (counts[reason] or 0) + 1
  if reason == 'resting' and (first_rest == '' or rest < first_rest) then first_rest = rest end
  if reason == 'sick' and rest > now and (first_try == '' or rest < first_try) then first_try = rest end
  if reason == 'dead' and string.find(' ' .. a[6] .. ' ', ' ' .. pool .. ' ', 1, true) then dead_capable = 1 end
  if count_only then return end
  local in_flight = redis.call('ZCARD', leases_key(agent_id))
  if score and score < UNUSABLE and #busy < MAX_BUSY then busy[#busy + 1] = agent_id end
  agents[#agents + 1] = { agent_id, a[7], told, in_flight, a[8], reason, rest > now and integer(rest) or '', is_avoided(avoid, agent_id) and 1 or 0,
    a[3] == 'suspect' and 3 or on_trial({ trial = a[9], in_flight = in_flight }, now) and (a[9] == 'sick' and 2 or 1) or 0 }
end

-- Agents of the pool, as they are next. Those beyond the ones told of are counted by their classes; who cannot be used is read, for the reason.
local pinned = pinned_in(pool)
local in_pool = pinned and 0 or redis.call('ZCARD', pool_key(pool))
if pinned then consider(pinned, (pinned_score(pinned)))
else
  local entries = redis.call('ZRANGE', pool_key(pool), 0, most - 1, 'WITHSCORES')
  for i = 1, #entries, 2 do consider(entries[i], tonumber(entries[i + 1])) end
  if in_pool > most then
    local eligible = redis.call('ZCOUNT', pool_key(pool), '-inf', '(' .. integer(FULL))
    local usable = redis.call('ZCOUNT', pool_key(pool), '-inf', '(' .. integer(UNUSABLE))
    if usable > most then
      counts.eligible = eligible > 0 and eligible or nil
      counts.at_capacity = usable > eligible and usable - eligible or nil
    end
    local from = math.max(most, usable)
    local others = redis.call('ZRANGE', pool_key(pool), from, from + most_counted - 1, 'WITHSCORES')
    for i = 1, #others, 2 do consider(others[i], tonumber(others[i + 1]), true) end
    most_counted = most_counted - #others / 2
  end
end
-- A task that was failed by an agent goes to another one, if one has room: `begin` chooses like this.
local other = counts.eligible and not pinned and avoid ~= '' and other_agent(pool, avoid)
if other then
  for agent_id in string.gmatch(avoid, '%S+') do
    local score = tonumber(redis.call('ZSCORE', pool_key(pool), agent_id) or FULL)
    if score < FULL then
      counts.eligible = counts.eligible - 1
      counts.failed_here_before = (counts.failed_here_before or 0) + 1
    end
  end
  for _, row in ipairs(agents) do
    if row[6] == 'eligible' and row[8] == 1 then row[6] = 'failed_here_before' end
  end
end
-- Agents that are not in the pool.
local known = redis.call('ZCARD', AGENTS)
if known > in_pool then
  local ids = redis.call('ZRANGE', AGENTS, 0, MAX_SCANNED - 1)
  local scores = redis.call('ZMSCORE', pool_key(pool), unpack(ids))
  for i, agent_id in ipairs(ids) do
    if not scores[i] and agent_id ~= pinned then
      local count_only = #agents >= most
      if count_only then most_counted = most_counted - 1 end
      if most_counted < 0 then break end
      consider(agent_id, nil, count_only)
    end
  end
end

if back then
  local seen, ahead, queues = { [queue] = true }, 0, 0
  for _, agent_id in ipairs(busy) do
    for _, other_queue in ipairs(queues < MAX_QUEUES and read_agent(agent_id).queues or {}) do
      if not seen[other_queue] and queues < MAX_QUEUES then
        seen[other_queue], queues = true, queues + 1
        ahead = ahead + above(other_queue, priority)
      end
    end
  end
  answer[5] = { back, before, ahead }
end
if not counts.resting then first_rest = first_try end
local counted = { known, dead_capable, first_rest == '' and '' or integer(first_rest) }
for reason, count in pairs(counts) do
  counted[#counted + 1] = reason
  counted[#counted + 1] = count
end
answer[7], answer[8] = agents, counted
return answer
