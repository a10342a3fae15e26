-- Whether an agent is sick: it fails so many different tasks in a row, or so many of those it gets, that it is its fault, not theirs. Included
-- by scripts that end attempts. Fields of the agent:
--   `streak`  what has failed there lately: 'run at done failed done failed id charged id charged …'. The tasks are different ones, the oldest
--             first, at most as many as it takes; the last `run` of them failed since it last completed one. `charged` is how many of the
--             task's retries that has cost. Between are the attempts counted in two buckets of 15 s, the second one from `at` (ms) on.
--             Absent when nothing failed lately: an agent that does well costs nothing more than a look at it. Empty while it is sick.
--   `sick`    from when it is found so until it completes a task that it got afterwards: since (ms), until (ms), times in a row, why; tabs between
--   `cleared` how many of the tasks that showed it have failed elsewhere, too
-- A sick agent rests (`rest`), longer each time, and then gets one task at a time (`trial`).
--- @include "slots.lua"

local OUT_MS = 30000
local MAX_OUT_MS = 300000
local PROBE_MS = 5000     -- one that nothing can replace is tried so often
local MAX_REASON = 300    -- bytes of an agent's own words
local BUCKET_MS = 15000
local WINDOW_LEAST = 20   -- attempts in the buckets, before half of them failed means anything
local WINDOW_TASKS = 3    -- and of so many different tasks, or it may be theirs

-- A number from 0 to 1, by chance: math.random begins anew in each script.
local function chance(seed) return tonumber(string.sub(redis.sha1hex(seed), 1, 7), 16) / 2 ^ 28 end

-- Are the others of its pools enough? 'yes': at least half of each are in service without it. 'last': none is, in a pool of its own, or it
-- has tasks by pins only. 'no': fewer than half: when most of a pool fail it is hardly the agents.
local function can_be_spared(agent)
  local answer = #agent.pools > 0 and 'yes' or 'last'
  for _, pool in ipairs(agent.pools) do
    local in_service = redis.call('ZCOUNT', pool_key(pool), '-inf', '(' .. integer(UNUSABLE))
    local own = tonumber(redis.call('ZSCORE', pool_key(pool), agent.id) or UNUSABLE)
    if own < UNUSABLE then in_service = in_service - 1 end
    if in_service == 0 then answer = 'last'
    elseif in_service * 2 < redis.call('ZCARD', pool_key(pool)) then return 'no' end
  end
  return answer
end

-- How long it is out: less by up to a fifth, so that those taken out together do not come back together.
local function out_ms(agent, times, spare, now)
  if spare ~= 'yes' then return PROBE_MS end
  return math.min(OUT_MS * times, MAX_OUT_MS) * (1 - chance(agent.id .. integer(now)) / 5)
end

local function take_out(agent, times, why, spare, now)
  if #why > MAX_REASON then why = string.gsub(string.sub(why, 1, MAX_REASON), '[\128-\255]+$', '') .. '…' end -- not in the midst of a character
  local till = math.floor(now + out_ms(agent, times, spare, now))
  agent.rest, agent.trial, agent.streak = math.max(agent.rest, till), 'sick', ''
  redis.call('HSET', agent_key(agent.id), 'rest', integer(agent.rest), 'trial', agent.trial, 'streak', '', 'cleared', '0',
    'sick', table.concat({ integer(now), integer(till), integer(times), why }, '\t'))
  watch(agent.id, agent.rest)
  -- Slots held for jobs that were about to be sent there: those jobs go back, and to others.
  for _, member in ipairs(redis.call('ZRANGE', leases_key(agent.id), 0, -1)) do
    if string.sub(member, 1, 2) == 'h.' then agent.in_flight = agent.in_flight - redis.call('ZREM', leases_key(agent.id), member) end
  end
  return { 'out', agent.id, integer(till), integer(times), why, spare }
end

local function sick_since(agent)
  local since, times = string.match(redis.call('HGET', agent_key(agent.id), 'sick') or '0\t0\t0', '^(%d+)\t%d+\t(%d+)')
  return tonumber(since), tonumber(times)
end
local function began_at(attempt) return tonumber(string.match(attempt, '^%d+')) end

local function read_streak(text, now)
  local s = { run = 0, at = now, done0 = 0, failed0 = 0, done1 = 0, failed1 = 0, tasks = {} }
  local run, at, done0, failed0, done1, failed1, tasks = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)(.*)$')
  if not run then return s end
  for id, charged in string.gmatch(tasks, '(%S+) (%d+)') do s.tasks[#s.tasks + 1] = { id, tonumber(charged) } end
  s.run = tonumber(run)
  local age = now - tonumber(at)
  if age < BUCKET_MS then
    s.at, s.done0, s.failed0, s.done1, s.failed1 = tonumber(at), tonumber(done0), tonumber(failed0), tonumber(done1), tonumber(failed1)
  elseif age < 2 * BUCKET_MS then
    s.at, s.done0, s.failed0 = tonumber(at) + BUCKET_MS, tonumber(done1), tonumber(failed1)
  end
  return s
end
local function note_streak(agent, s)
  if agent.trial == 'sick' then return end
  local cells = { integer(s.run), integer(s.at), integer(s.done0), integer(s.failed0), integer(s.done1), integer(s.failed1) }
  for _, entry in ipairs(s.tasks) do cells[#cells + 1] = entry[1] .. ' ' .. integer(entry[2]) end
  agent.streak = table.concat(cells, ' ')
  redis.call('HSET', agent_key(agent.id), 'streak', agent.streak)
end
-- One more attempt of a task has failed. A task is one of the run however often it fails.
local function add_failure(s, task, most)
  local own, before_run = { task, 0 }, #s.tasks - s.run
  for i, entry in ipairs(s.tasks) do
    if entry[1] == task then
      own = table.remove(s.tasks, i)
      if i > before_run then s.run = s.run - 1 end
      break
    end
  end
  s.tasks[#s.tasks + 1] = own
  s.run, s.failed1 = s.run + 1, s.failed1 + 1
  while #s.tasks > most do table.remove(s.tasks, 1) end
  s.run = math.min(s.run, #s.tasks)
end

-- What the streak says against an agent, or nil. One that nothing can replace is sick only when it completes nothing at all: while it does
-- that, the failures may be the tasks' own, and without it none would go.
local function verdict_on(s, most, spare)
  local done, failed = s.done0 + s.done1, s.failed0 + s.failed1
  if s.run >= most and (spare == 'yes' or done == 0) then return most .. ' different tasks in a row failed there; the last: ' end
  if spare == 'yes' and done + failed >= WINDOW_LEAST and failed * 2 >= done + failed and #s.tasks >= math.min(WINDOW_TASKS, most) then
    return failed .. ' of ' .. done + failed .. ' attempts there failed within half a minute; the last: '
  end
end

-- An attempt of a task has failed at the agent (as read). `most`: so many different tasks in a row make it sick.
-- Returns whether it is sick, so that this is not the task's fault; what was found out just now, for the log, or nil; and
--   when it is sick: those to be refunded, list of {task, charged}
--   else: the streak with this task at the end, to be written with `note_streak`
local function judge(agent, task, attempt, err, most, now)
  if agent.trial == 'sick' then
    local since, times = sick_since(agent)
    if began_at(attempt) <= since then return true, nil, {} end -- what it still had
    return true, take_out(agent, times + 1, 'the task it was tried with failed too: ' .. err, can_be_spared(agent), now), {}
  end
  local s = read_streak(agent.streak, now)
  add_failure(s, task, most)
  if s.run < most and s.done0 + s.done1 + s.failed0 + s.failed1 < WINDOW_LEAST then return false, nil, s end
  local spare = can_be_spared(agent)
  local against = spare ~= 'no' and verdict_on(s, most, spare)
  if not against then return false, nil, s end
  return true, take_out(agent, 1, against .. err, spare, now), s.tasks
end

-- The agent (as read, with a streak) has completed a task. A sick one is well again, if it got the task since.
-- Returns true when it was sick and is not any more.
local function completed_one(agent, attempt, now)
  local was_sick = agent.trial == 'sick'
  if was_sick and began_at(attempt) <= sick_since(agent) then return false end
  if not was_sick then
    local s = read_streak(agent.streak, now)
    if s.failed0 + s.failed1 > 0 then
      s.run, s.done1 = 0, s.done1 + 1
      note_streak(agent, s)
    else
      agent.streak = nil
      redis.call('HDEL', agent_key(agent.id), 'streak')
    end
    return false
  end
  agent.streak, agent.trial = nil, nil
  redis.call('HDEL', agent_key(agent.id), 'streak', 'sick', 'trial', 'cleared')
  return true
end

-- Whether the rest of an agent (its fields trial, rest, sick) is that of its sickness, and not one that it has asked for. And since when.
local function rests_as_sick(trial, rest, sick, now)
  if trial ~= 'sick' or tonumber(rest) <= now then return false end
  local since, till = string.match(sick or '', '^(%d+)\t(%d+)')
  return till == rest, tonumber(since)
end

-- A task that helped to show that an agent is sick has failed at another one, too. When most of those have, it was theirs: it is well.
-- Returns true when it is that now.
local function clear_one(id, most, now)
  local a = redis.call('HMGET', agent_key(id), 'trial', 'rest', 'sick')
  if a[1] ~= 'sick' or redis.call('HINCRBY', agent_key(id), 'cleared', 1) * 2 <= most then return false end
  if rests_as_sick(a[1], a[2], a[3], now) then redis.call('HSET', agent_key(id), 'rest', '0') end
  redis.call('HDEL', agent_key(id), 'streak', 'sick', 'trial', 'cleared')
  if rescore(id, now) then offer_all(id) end
  return true
end

-- When none of a pool's agents is in service, those taken out as sick are tried before their time, each 5 s after it last failed; so is the one
-- that tasks are pinned to. Returns whether there were any.
local MAX_TRIED = 20
local function try_the_sick(pool, now)
  local pinned = pinned_in(pool)
  local first = pinned and { pinned, UNUSABLE } or redis.call('ZRANGE', pool_key(pool), 0, MAX_TRIED - 1, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) < UNUSABLE then return false end
  local any = false
  for i = 1, #first, 2 do
    local a = redis.call('HMGET', agent_key(first[i]), 'trial', 'rest', 'sick')
    local resting, since = rests_as_sick(a[1], a[2] or '0', a[3], now)
    if resting and now - since >= PROBE_MS then
      redis.call('HSET', agent_key(first[i]), 'rest', '0')
      rescore(first[i], now)
      any = true
    end
  end
  return any
end
