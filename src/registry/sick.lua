-- Whether an agent is sick: so many different tasks in a row have failed there that it is its fault, not theirs. Included by scripts that
-- end attempts. Fields of the agent:
--   `streak`  the tasks that failed there since it last completed one, 'id charged id charged …', the oldest first, at most as many as it takes;
--             `charged` is how many of the task's retries it has cost. Absent when the last one was completed, empty while it is sick.
--   `sick`    from when it is found so until it completes a task that it got afterwards: since (ms), until (ms), times in a row, why; tabs between
-- A sick agent rests (`rest`), longer each time, and then gets one task at a time (`trial`).
--- @include "slots.lua"

local OUT_MS = 30000
local MAX_OUT_MS = 300000
local MAX_REASON = 300 -- bytes of an agent's own words

-- Are the others of its pools enough? At least half of each must be in service without it: it is never the only one that is taken out,
-- and when most of a pool fail it is hardly the agents.
local function can_be_spared(agent)
  for _, pool in ipairs(agent.pools) do
    local in_service = redis.call('ZCOUNT', pool_key(pool), '-inf', '(' .. integer(UNUSABLE))
    local own = tonumber(redis.call('ZSCORE', pool_key(pool), agent.id) or UNUSABLE)
    if own < UNUSABLE then in_service = in_service - 1 end
    if in_service * 2 < redis.call('ZCARD', pool_key(pool)) then return false end
  end
  return #agent.pools > 0
end

local function take_out(agent, times, why, now)
  if #why > MAX_REASON then why = string.gsub(string.sub(why, 1, MAX_REASON), '[\128-\255]+$', '') .. '…' end -- not in the midst of a character
  local till = now + math.min(OUT_MS * times, MAX_OUT_MS)
  agent.rest, agent.trial, agent.streak = math.max(agent.rest, till), 'sick', ''
  redis.call('HSET', agent_key(agent.id), 'rest', integer(agent.rest), 'trial', agent.trial, 'streak', '',
    'sick', table.concat({ integer(now), integer(till), integer(times), why }, '\t'))
  watch(agent.id, agent.rest)
  -- Slots held for jobs that were about to be sent there: those jobs go back, and to others.
  for _, member in ipairs(redis.call('ZRANGE', leases_key(agent.id), 0, -1)) do
    if string.sub(member, 1, 2) == 'h.' then agent.in_flight = agent.in_flight - redis.call('ZREM', leases_key(agent.id), member) end
  end
  return { 'out', agent.id, integer(till), integer(times), why }
end

local function sick_since(agent)
  local since, times = string.match(redis.call('HGET', agent_key(agent.id), 'sick') or '0\t0\t0', '^(%d+)\t%d+\t(%d+)')
  return tonumber(since), tonumber(times)
end
local function began_at(attempt) return tonumber(string.match(attempt, '^%d+')) end

-- An attempt of a task has failed at the agent (as read). `most`: so many different tasks in a row make it sick.
-- Returns whether it is sick, so that this is not the task's fault; what was found out just now, for the log, or nil; and
--   when it is sick: those to be refunded, list of {task, charged}
--   else: the streak, the same with this task at the end, to be written with `note_streak`
local function judge(agent, task, attempt, err, most, now)
  if agent.trial == 'sick' then
    local since, times = sick_since(agent)
    if began_at(attempt) <= since then return true, nil, {} end -- what it still had
    if not can_be_spared(agent) then return false, nil, {} end
    return true, take_out(agent, times + 1, 'the task it was tried with failed too: ' .. err, now), {}
  end
  local streak, own = {}, { task, 0 }
  for id, charged in string.gmatch(agent.streak or '', '(%S+) (%d+)') do
    if id == task then own[2] = tonumber(charged) else streak[#streak + 1] = { id, tonumber(charged) } end
  end
  streak[#streak + 1] = own
  while #streak > most do table.remove(streak, 1) end
  if #streak < most or not can_be_spared(agent) then return false, nil, streak end
  return true, take_out(agent, 1, most .. ' different tasks in a row failed there; the last: ' .. err, now), streak
end

local function note_streak(agent, streak)
  if agent.trial == 'sick' then return end
  local cells = {}
  for i, entry in ipairs(streak) do cells[i] = entry[1] .. ' ' .. integer(entry[2]) end
  agent.streak = table.concat(cells, ' ')
  redis.call('HSET', agent_key(agent.id), 'streak', agent.streak)
end

-- The agent (as read, with a streak) has completed a task. A sick one is well again, if it got the task since.
-- Returns true when it was sick and is not any more.
local function completed_one(agent, attempt)
  local was_sick = agent.trial == 'sick'
  if was_sick and began_at(attempt) <= sick_since(agent) then return false end
  agent.streak = nil
  if not was_sick then
    redis.call('HDEL', agent_key(agent.id), 'streak')
    return false
  end
  agent.trial = nil
  redis.call('HDEL', agent_key(agent.id), 'streak', 'sick', 'trial')
  return true
end

-- When none of a pool's agents is in service, those taken out as sick are tried at once, before their time. Returns whether there were any.
local MAX_TRIED = 20
local function try_the_sick(pool, now)
  local first = redis.call('ZRANGE', pool_key(pool), 0, MAX_TRIED - 1, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) < UNUSABLE then return false end
  local any = false
  for i = 1, #first, 2 do
    local a = redis.call('HMGET', agent_key(first[i]), 'trial', 'rest', 'sick')
    -- A rest that it has asked for itself is left to it.
    if a[1] == 'sick' and tonumber(a[2]) > now and string.match(a[3] or '', '^%d+\t(%d+)') == a[2] then
      redis.call('HSET', agent_key(first[i]), 'rest', '0')
      rescore(first[i], now)
      any = true
    end
  end
  return any
end
