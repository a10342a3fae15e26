-- What a failed attempt means to its task: it is tried again, or it has failed. Included by finish.lua. Who is at fault?
-- The agent, when it is sick (registry/sick.lua): the attempt costs the task nothing, nor do those that showed it, which are given back to
-- their tasks. The task, when it has failed on so many different agents that were not found sick meanwhile: it is poison, and not tried again.
--- @include "record.lua"
--- @include "../registry/sick.lua"

local MAX_REFUNDS = 10 -- a task that meets nothing but sick agents pays again from then on

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

-- The agent was sick when it failed the task: gives back the retries which that has cost, unless the task has ended. Returns how many.
local function refund(id, charged, agent_id)
  local t = redis.call('HMGET', task_key(id), 'status', 'retries', 'refunds', 'failed_by')
  if not t[1] or ENDS[t[1]] then return 0 end
  local retries, refunds = tonumber(t[2] or 0), tonumber(t[3] or 0)
  local back = math.max(0, math.min(charged, retries, MAX_REFUNDS - refunds))
  if back > 0 then redis.call('HSET', task_key(id), 'retries', retries - back, 'refunds', refunds + back) end
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

-- `agent` as read, or nil when the attempt says nothing of it: it is gone, or has begun anew since. `a`, `entry`: what is kept of the
-- delivery. `limits`: so many different agents make a task poison, so many different tasks in a row an agent sick; 0 is never.
-- Returns the new status, ms until it goes again, and for the log a list of what was found out (finish.lua), or nil.
local function fail(id, from, attempt, agent_id, agent, outcome, err, a, entry, retry_in, max_retries, limits, now)
  local poison_at, sick_at = string.match(limits, '^(%d+) (%d+)$')
  poison_at, sick_at = tonumber(poison_at), tonumber(sick_at)
  local sick, streak, found, refunded = false, nil, nil, 0
  if agent and sick_at > 0 then sick, streak, found, refunded = at_fault(agent, id, attempt, err, sick_at, now) end

  local t = redis.call('HMGET', task_key(id), 'retries', 'refunds', 'avoid', 'expires', 'failed_by')
  local retries, refunds, failed_by = tonumber(t[1] or 0), tonumber(t[2] or 0), t[5] or ' '
  local free = sick and refunds < MAX_REFUNDS
  -- That no connection could be made is not the task's doing.
  if poison_at > 0 and not free and outcome ~= 'unreachable' then failed_by = add_word(failed_by, agent_id) end
  local on = count_words(failed_by)
  local poison = poison_at > 0 and on >= poison_at
  local again = not poison and (free or retries < tonumber(max_retries))

  if free then refunded = refunded + 1 end
  if refunded > 0 then count('refunded', refunded) end
  local seen -- what was found out
  if found then
    count('agents_out')
    found[#found + 1] = refunded
    seen = { found }
  end
  if streak then
    if again then streak[#streak][2] = streak[#streak][2] + 1 end
    note_streak(agent, streak)
  end

  if again then
    local wait_ms, avoid = tonumber(retry_in), t[3] or ' '
    if not is_avoided(avoid, agent_id) then avoid = (count_words(avoid) >= MAX_AVOIDED and ' ' or avoid) .. agent_id .. ' ' end
    local more = { a, entry, 'not_before', integer(now + wait_ms), 'error', err, 'avoid', avoid }
    if free then more[9], more[10] = 'refunds', refunds + 1 else more[9], more[10] = 'retries', retries + 1 end
    if on > 0 then more[11], more[12] = 'failed_by', failed_by end
    set_status(id, from, 'retrying', unpack(more))
    look_at(id, math.min(now + wait_ms, tonumber(t[4])))
    return 'retrying', wait_ms, seen
  end
  if poison then
    count('poisoned')
    seen = seen or {}
    seen[#seen + 1] = { 'poison' }
    end_record(id, from, 'failed', now, a, entry, 'poison', '1', 'error', 'poison: it failed on ' .. on .. ' different agents and is not tried again; the last said: ' .. err)
    return 'failed', 0, seen
  end
  local status = outcome == 'timeout' and 'timeout' or 'failed'
  end_record(id, from, status, now, a, entry, 'error', err)
  return status, 0, seen
end
