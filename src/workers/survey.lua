-- A dispatcher's look at agent types, once a second: what waits, what is due; it also says that the dispatcher is there.
-- KEYS[1] base of the first of them
-- ARGV[1] dispatcher  [2] its attempts in flight  [3] how many webhooks of a type are kept  [4] and bytes of tasks for them alone
-- ARGV[5…20] for each of four statuses: its name, for how long ended records of it are kept (ms), how many, how many bytes
-- ARGV[21…] for each type, all of one server: its base, 1 when our connection has broken since its last look
-- Returns for each, one at least and as many as may be looked at in one go:
--   {ms until a record is to be looked at or -1, 1 when agents are due, 1 when webhooks are due, list of {queue, waiting, active, room, front},
--   the load of the least busy other dispatcher or -1, 1 when the type is in use (there is an agent, a queue, a task, a webhook or a schedule),
--   some of the queues without jobs for an hour, to be forgotten,
--   ms until a schedule is to be looked at, below 0 when it should have been, or '',
--   1 when there may be ended records or webhooks to forget}
-- Of a type not in use the rest goes by itself when nobody has looked at it for an hour.
--- @include "../redis/any-memory.lua"
--- @include "../redis/batch.lua"
--- @include "../registry/health.lua"
--- @include "../registry/sick.lua"

local HOUR = 3600000 -- in ms
local AT_ONCE = 50
local MAX_IDLE = 20
local WEIGHED_MS = 60000 -- a list at rest is looked at again after so long: its records may have grown (tasks/weigh.lua)
local SCHEDULES_POOL = '~schedules' -- queues/schedulers.ts
local FIRST_KEPT, FIRST_TYPE = 5, 21
local MAX_DISPATCHERS = 1000 -- one that was killed with much in hand is noted until it is told something in vain: of more those go
-- Redis does nothing else meanwhile, so no longer than one or two milliseconds: a type counts one, as do each further fifty of its queues and each in use.
local IN_ONE_GO = 50
local now, looked_at = now_ms(), 0

-- What waits and runs in the queues of the type, and which of them nobody uses.
local function look_at_queues()
  local busy, idle, any = {}, {}, nil
  local queues = redis.call('ZRANGE', QUEUES, 0, -1, 'WITHSCORES')
  for i = 1, #queues, 2 do
    -- Nearly all of many queues have nothing: they are asked for together.
    if (i - 1) % (2 * AT_ONCE) == 0 then
      any = any_jobs(queues, i, math.min(i + 2 * AT_ONCE - 1, #queues), 2)
      if i > 1 then looked_at = looked_at + 1 end
    end
    local queue, seen, waits, under_way = queues[i], tonumber(queues[i + 1]), 0, 0
    if any then waits, under_way = waiting(queue), active(queue) end
    if waits > 0 or under_way > 0 then
      if now - seen > 60000 then redis.call('ZADD', QUEUES, integer(now), queue) end
      local room = next_agent(pool_of(queue))
      if not room and waits > 0 and try_the_sick(pool_of(queue), now) then room = next_agent(pool_of(queue)) end
      busy[#busy + 1] = { queue, waits, under_way, room and 1 or 0, room and waits > 0 and front(queue) or '' }
    elseif #idle < MAX_IDLE and now - seen > HOUR and delayed(queue) == 0 then
      idle[#idle + 1] = queue
    end
  end
  looked_at = looked_at + #busy
  return busy, idle, #queues > 0
end

local function first_score(key) return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] end

-- The first by id is the oldest (tasks/trim.lua): as long as that is young, and there are not too many, and all were measured (tasks/weigh.lua) and are not too
-- much, there is nothing to forget.
local function may_be_trimmed()
  local weighed = redis.call('HMGET', WEIGHT, 'webhooks', ARGV[5], ARGV[5] .. ':count', ARGV[9], ARGV[9] .. ':count', ARGV[13], ARGV[13] .. ':count', ARGV[17], ARGV[17] .. ':count',
    ARGV[5] .. ':looked', ARGV[9] .. ':looked', ARGV[13] .. ':looked', ARGV[17] .. ':looked')
  for i = FIRST_KEPT, FIRST_TYPE - 1, 4 do
    local list, at = tasks_key(ARGV[i]), (i - FIRST_KEPT) / 2 + 2
    local bytes, measured = tonumber(weighed[at]), tonumber(weighed[at + 1])
    local oldest = redis.call('ZRANGE', list, 0, 0)[1]
    if not oldest and measured then return true end
    if oldest then
      local created, count = redis.call('HGET', task_key(oldest), 'created'), redis.call('ZCARD', list)
      if not created or now >= created + ARGV[i + 1] or count > tonumber(ARGV[i + 2]) or count ~= measured or bytes > tonumber(ARGV[i + 3])
        or now >= tonumber(weighed[10 + (i - FIRST_KEPT) / 4] or 0) + WEIGHED_MS then return true end
    end
  end
  local next_webhook = first_score(WEBHOOKS)
  return next_webhook and (tonumber(next_webhook) <= now or redis.call('ZCARD', WEBHOOKS) > tonumber(ARGV[3]) or tonumber(weighed[1] or 0) > tonumber(ARGV[4]))
end

local function is_in_use()
  local lists = {}
  for i, status in ipairs({ 'pending', 'queued', 'retrying', 'completed', 'failed', 'timeout', 'cancelled' }) do lists[i] = tasks_key(status) end
  return redis.call('EXISTS', AGENTS, QUEUES, WEBHOOKS, SCHEDULES, unpack(lists)) > 0
end

local function look_at_type(broken)
  redis.call('ZADD', DISPATCHERS, ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYRANK', DISPATCHERS, MAX_DISPATCHERS, -1)
  forgive_absence(now, broken)
  redis.call('HSET', SWEEP, 'tick', integer(now))

  local next_look = first_score(WATCH)
  local next_record, next_webhook, next_schedule
  if redis.call('EXISTS', TIMERS, WEBHOOK_ORIGINS, SCHEDULES) > 0 then
    next_record, next_webhook, next_schedule = first_score(TIMERS), first_score(WEBHOOK_ORIGINS), first_score(SCHEDULES)
  end
  local least, two = '-1', redis.call('ZRANGE', DISPATCHERS, 0, 1, 'WITHSCORES')
  if two[1] and two[1] ~= ARGV[1] then least = two[2] elseif two[3] then least = two[4] end
  local busy, idle, any_queues = look_at_queues()
  local schedule_in = ''
  if next_schedule and next_schedule ~= 'inf' then schedule_in = integer(tonumber(next_schedule) - now) end
  -- Their queue is no pool's, so it is not among the others. What its jobs are for may be gone; they are taken out all the same.
  local schedules_queue = queue_of(SCHEDULES_POOL)
  if any_jobs({ schedules_queue }, 1, 1, 1) then
    if waiting(schedules_queue) > 0 then schedule_in = '0' end
    if active(schedules_queue) > 0 then busy[#busy + 1] = { schedules_queue, 0, active(schedules_queue), 0, '' } end
  end
  local in_use = any_queues or is_in_use()
  -- They were all given their hour together.
  if not in_use or redis.call('PTTL', SWEEP) >= 0 then
    for _, key in ipairs({ DISPATCHERS, SWEEP, STATS, WOKEN }) do
      if in_use then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, HOUR) end
    end
  end
  return {
    next_record and math.max(0, tonumber(next_record) - now) or -1,
    (next_look and tonumber(next_look) <= now or redis.call('HEXISTS', SWEEP, 'hold') == 1) and 1 or 0,
    next_webhook and tonumber(next_webhook) <= now and 1 or 0,
    busy,
    least,
    in_use and 1 or 0,
    idle,
    schedule_in,
    may_be_trimmed() and 1 or 0,
  }
end

local replies = {}
for i = FIRST_TYPE, #ARGV, 2 do
  at_base(ARGV[i])
  local ok, reply = pcall(look_at_type, ARGV[i + 1] == '1')
  replies[#replies + 1] = ok and reply or error_reply(reply)
  looked_at = looked_at + 1
  if looked_at >= IN_ONE_GO then break end
end
return replies
