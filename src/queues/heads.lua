-- What is in the queues, read from BullMQ's keys. Included by scripts; outside this folder no Lua knows these names.
-- BullMQ keeps jobs that come back from a dead worker in the list `wait` (they go first, by its own rule) and ours,
-- which all have a priority, in the zset `prioritized`: score = (16 - priority) * 2^32 + a counter.

local function bull_key(queue, part) return base .. queue .. ':' .. part end
-- Is there a job of this id that can still go? One that has finished is none: it was taken before its record was there.
local function has_job(queue, id)
  local job = redis.call('HMGET', bull_key(queue, id), 'timestamp', 'finishedOn')
  return job[1] and not job[2]
end
-- Does the job stand in line, or wait for its time?
local function in_line(queue, id) return redis.call('ZSCORE', bull_key(queue, 'prioritized'), id) end
local function is_delayed(queue, id) return redis.call('ZSCORE', bull_key(queue, 'delayed'), id) end
-- The lock on a job that somebody has in hand; its value says who.
local function lock_key(queue, id) return bull_key(queue, id) .. ':lock' end
-- BullMQ searches the list of active jobs for each one that ends, from the oldest on: one that nobody will move for long, it is parked at its
-- agent, would be in the way of all others. It stands aside, locked, until it is to be moved; then it is the oldest, and found first.
local function set_aside(queue, id)
  redis.call('LREM', bull_key(queue, 'active'), 1, id)
  redis.call('SADD', aside_key(queue), id)
end
local function is_aside(queue, id) return redis.call('SISMEMBER', aside_key(queue), id) == 1 end
local function bring_back(queue, id)
  if redis.call('SREM', aside_key(queue), id) == 1 then redis.call('RPUSH', bull_key(queue, 'active'), id) end
end
local function queue_of(pool) return agent_type .. '.' .. pool end

-- How many jobs could go now.
local function waiting(queue)
  return redis.call('LLEN', bull_key(queue, 'wait')) + redis.call('ZCARD', bull_key(queue, 'prioritized'))
end

-- How many wait for their time, are at a dispatcher or parked at an agent, have ended and are kept for the Board.
local function delayed(queue) return redis.call('ZCARD', bull_key(queue, 'delayed')) end
local function active(queue) return redis.call('LLEN', bull_key(queue, 'active')) + redis.call('SCARD', aside_key(queue)) end
local function finished(queue) return redis.call('ZCARD', bull_key(queue, 'completed')) + redis.call('ZCARD', bull_key(queue, 'failed')) end
-- Whether any of these queues (every `step`th of a list's part) has a job that could go or is in hand.
local function any_jobs(list, from, to, step)
  local keys = {}
  for i = from, to, step do
    for _, part in ipairs({ 'wait', 'prioritized', 'active' }) do keys[#keys + 1] = bull_key(list[i], part) end
    keys[#keys + 1] = aside_key(list[i])
  end
  return redis.call('EXISTS', unpack(keys)) > 0
end

-- Whether any of these queues has jobs that came back from a dead worker. Asked once, as nearly always there are none.
local function came_back(queues)
  local lists = {}
  for i, queue in ipairs(queues) do lists[i] = bull_key(queue, 'wait') end
  return #lists > 0 and redis.call('EXISTS', unpack(lists)) > 0
end

-- The rank of the job that goes first of a queue: lower goes before others. And its id; nil when there is none.
-- `back`: what came_back says.
local function head(queue, back)
  local first = back and redis.call('LINDEX', bull_key(queue, 'wait'), -1)
  if first then return 0, first end
  local entry = redis.call('ZRANGE', bull_key(queue, 'prioritized'), 0, 0, 'WITHSCORES')
  if not entry[1] then return nil end
  return math.floor(tonumber(entry[2]) / 4294967296), entry[1]
end

-- The first job of a queue and the one that was taken last: while both stay the same, nothing goes out.
local function front(queue)
  local first = redis.call('LINDEX', bull_key(queue, 'wait'), -1) or redis.call('ZRANGE', bull_key(queue, 'prioritized'), 0, 0)[1]
  return (first or '') .. ' ' .. (redis.call('LINDEX', bull_key(queue, 'active'), 0) or '')
end

-- The jobs that go before one in its queue: how many came back from a dead worker, and of each priority {priority, how many, …}, the highest
-- first; and its own priority (16 when it came back itself: before all others). nil when it does not stand in line, or came back and is not
-- among the first so many of those.
local MAX_BACK = 5000
local function before_in_line(queue, id)
  local back, line = redis.call('LLEN', bull_key(queue, 'wait')), bull_key(queue, 'prioritized')
  local score, place = redis.call('ZSCORE', line, id), redis.call('ZRANK', line, id)
  if not score then
    local at = back > 0 and redis.call('LPOS', bull_key(queue, 'wait'), id, 'RANK', -1, 'MAXLEN', MAX_BACK)
    if not at then return nil end
    return back - 1 - at, {}, 16
  end
  local rank, before = math.floor(tonumber(score) / 4294967296), {}
  for r = 1, rank - 1 do
    local count = redis.call('ZCOUNT', line, string.format('%.0f', r * 4294967296), string.format('(%.0f', (r + 1) * 4294967296))
    if count > 0 then
      before[#before + 1], before[#before + 2] = 16 - r, count
      place = place - count
    end
  end
  if place > 0 then before[#before + 1], before[#before + 2] = 16 - rank, place end
  return back, before, 16 - rank
end
-- How many jobs of a queue go before any of that priority.
local function above(queue, priority)
  if priority > 15 then return 0 end
  return redis.call('LLEN', bull_key(queue, 'wait')) + redis.call('ZCOUNT', bull_key(queue, 'prioritized'), '-inf', string.format('(%.0f', (16 - priority) * 4294967296))
end
