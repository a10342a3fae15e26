-- What a failed attempt means to its task: it is tried again, or it has failed. Included by finish.lua. Who is at fault?
-- The agent, when it is sick (registry/sick.lua): the attempt costs the task nothing, nor do those that showed it, which are given back to
-- their tasks. The task, when it has failed on so many different agents that were not found sick meanwhile: it is poison, and not tried again;
-- and when those that showed an agent to be sick fail on others too, that one is well. Nobody knows, when the agent was only suspected to be
-- there (registry/health.lua) and gave no answer: that costs nothing either.
--- @include "record.lua"
--- @include "../registry/sick.lua"
--- @include "budget.lua"

local MAX_REFUNDS = 10 -- a task that meets nothing but sick agents pays again from then on
local DOUBTED_MS = 1000 -- no longer than this waits one that was sent where nobody was,
local EXCUSED_MS = 100  -- and one whose connection was closed under it

-- Lists of agents are words with spaces around.
local function add_word(words, word) return string.find(words, ' ' .. word .. ' ', 1, true) and words or words .. word .. ' ' end
local function count_words(words)
  local _, count = string.gsub(words, '%S+', '')
  return count
end
local function without_word(words, word)
  local from, to = string.find(words, ' ' .. word .. ' ', 1, true)
  return from and string.sub(words, 1, from) .. string.sub(words, to + 1) or words
end

-- The agent was sick when it failed the task: gives back the retries which that has cost, unless the task has ended, and notes whom it has shown
-- to be sick. Returns how many.
local function refund(id, charged, agent_id)
  local t = redis.call('HMGET', task_key(id), 'status', 'retries', 'refunds', 'failed_by')
  if not t[1] or ENDS[t[1]] then return 0 end
  local retries, refunds = tonumber(t[2] or 0), tonumber(t[3] or 0)
  local back = math.max(0, math.min(charged, retries, MAX_REFUNDS - refunds))
  redis.call('HSET', task_key(id), 'retries', retries - back, 'refunds', refunds + back, 'blamed', agent_id)
  if t[4] then redis.call('HSET', task_key(id), 'failed_by', without_word(t[4], agent_id)) end
  return back
end

-- Returns whether the agent is sick; the streak to be noted, or nil; what was found out just now, or nil; how many attempts were refunded.
local function at_fault(agent, id, attempt, err, sick_at, now)
  local sick, found, streak = judge(agent, id, attempt, err, sick_at, now)
  if not sick then return false, streak, nil, 0 end
  local refunded = 0
  for _, entry in ipairs(streak) do refunded = refunded + refund(entry[1], entry[2], agent.id) end
  return true, nil, found, refunded
end

-- `agent` as read, or nil when the attempt says nothing of it: it is gone, or has begun anew since. `doubted`: it was suspected not to be there,
-- and gave no answer. `excused`: the connection was kept from before, and closed under it; a task is excused once. `a`, `entry`: what is kept of the delivery. `limits`: so many different agents make a task poison, so many different
-- tasks in a row an agent sick; 0 is never.
-- Returns the new status, ms until it goes again, and for the log a list of what was found out (finish.lua), or nil.
local function fail(id, from, attempt, agent_id, agent, doubted, excused, outcome, err, a, entry, retry_in, max_retries, limits, now)
  local poison_at, sick_at = string.match(limits, '^(%d+) (%d+)$')
  poison_at, sick_at, max_retries = tonumber(poison_at), tonumber(sick_at), tonumber(max_retries)
  local sick, streak, found, refunded = false, nil, nil, 0
  if agent and sick_at > 0 and not doubted and not excused then sick, streak, found, refunded = at_fault(agent, id, attempt, err, sick_at, now) end

  local t = redis.call('HMGET', task_key(id), 'retries', 'refunds', 'avoid', 'expires', 'failed_by', 'blamed', 'postponed')
  if t[6] == '' then t[6] = nil end
  local retries, refunds, failed_by = tonumber(t[1] or 0), tonumber(t[2] or 0), t[5] or ' '
  -- Where nothing can replace the agent, one that asked for no retries is not sent again and again until it is well.
  excused = excused and refunds == 0
  local free = (doubted or excused or sick and (max_retries > 0 or can_be_spared(agent) ~= 'last')) and refunds < MAX_REFUNDS
  local seen -- what was found out
  local function find(...) seen = seen or {}; seen[#seen + 1] = { ... } end
  -- That no connection could be made is not the task's doing.
  if poison_at > 0 and not free and outcome ~= 'unreachable' then failed_by = add_word(failed_by, agent_id) end
  local cleared = t[6] and t[6] ~= agent_id and not sick and not doubted and not excused and outcome ~= 'unreachable'
  if cleared then
    if poison_at > 0 then failed_by = add_word(failed_by, t[6]) end
    if clear_one(t[6], sick_at, now) then
      count('agents_cleared')
      find('cleared', t[6])
    end
  end
  local on = count_words(failed_by)
  local poison = poison_at > 0 and on >= poison_at
  local again = not poison and (free or retries < max_retries)

  if free then refunded = refunded + 1 end
  if refunded > 0 then count('refunded', refunded) end
  if found then
    count((found[4] == '1' or found[6] == 'yes') and 'agents_out' or 'probes_failed')
    found[#found + 1] = refunded
    find(unpack(found))
  end
  if streak then
    if again then streak.tasks[#streak.tasks][2] = streak.tasks[#streak.tasks][2] + 1 end
    note_streak(agent, streak)
  end

  if again then
    local wait_ms, avoid, postponed = tonumber(retry_in), t[3] or ' ', 0
    if excused then wait_ms = math.min(wait_ms, EXCUSED_MS)
    elseif doubted then wait_ms = math.min(wait_ms, DOUBTED_MS)
    else
      -- A budget that is spent makes it wait, and never expire.
      postponed = math.floor(math.min(over_budget(id, retries + refunds == 0, now), (tonumber(t[4]) - now) / 2))
      if postponed > wait_ms then
        wait_ms = postponed
        count('postponed')
      else postponed = 0 end
    end
    if not is_avoided(avoid, agent_id) then avoid = (count_words(avoid) >= MAX_AVOIDED and ' ' or avoid) .. agent_id .. ' ' end
    local more = { a, entry, 'not_before', integer(now + wait_ms), 'error', err, 'avoid', avoid }
    local function add(field, value) more[#more + 1] = field; more[#more + 1] = value end
    if free then add('refunds', refunds + 1) else add('retries', retries + 1) end
    if on > 0 then add('failed_by', failed_by) end
    if found or cleared then add('blamed', cleared and '' or agent_id) end
    if postponed > 0 or t[7] then add('postponed', postponed > 0 and '1' or '') end
    set_status(id, from, 'retrying', unpack(more))
    look_at(id, math.min(now + wait_ms, tonumber(t[4])))
    return 'retrying', wait_ms, seen
  end
  if poison then
    count('poisoned')
    find('poison')
    end_record(id, from, 'failed', now, a, entry, 'poison', '1', 'error', 'poison: it failed on ' .. on .. ' different agents and is not tried again; the last said: ' .. err)
    return 'failed', 0, seen
  end
  local status = outcome == 'timeout' and 'timeout' or 'failed'
  end_record(id, from, status, now, a, entry, 'error', err)
  return status, 0, seen
end
