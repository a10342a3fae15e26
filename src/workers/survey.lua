-- A dispatcher's look at an agent type, once a second: what waits, what is due; it also says that the dispatcher is there.
-- KEYS[1] base   ARGV[1] dispatcher  [2] its attempts in flight  [3] 1 when its connection has broken since its last look
-- Returns {ms until a record is to be looked at or -1, 1 when agents are due, 1 when webhooks are due, list of {queue, waiting, active, room, front},
--   the load of the least busy other dispatcher or -1, 1 when the type is in use (there is an agent, a queue, a task, a webhook or a schedule),
--   some of the queues without jobs for an hour, to be forgotten,
--   ms until a schedule is to be looked at, below 0 when it should have been, or ''}
-- Of a type not in use the rest goes by itself when nobody has looked at it for an hour.
--- @include "../redis/any-memory.lua"
--- @include "../registry/health.lua"
--- @include "../registry/sick.lua"

local HOUR = 3600000 -- in ms
local AT_ONCE = 50
local MAX_IDLE = 20
local SCHEDULES_POOL = '~schedules' -- queues/schedulers.ts
local now = now_ms()
redis.call('ZADD', DISPATCHERS, ARGV[2], ARGV[1])
forgive_absence(now, ARGV[3] == '1')
redis.call('HSET', SWEEP, 'tick', integer(now))

local next_record = redis.call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')[2]
local next_look = redis.call('ZRANGE', WATCH, 0, 0, 'WITHSCORES')[2]
local next_webhook = redis.call('ZRANGE', WEBHOOK_ORIGINS, 0, 0, 'WITHSCORES')[2]
local busy, idle = {}, {}
local least, two = '-1', redis.call('ZRANGE', DISPATCHERS, 0, 1, 'WITHSCORES')
if two[1] and two[1] ~= ARGV[1] then least = two[2] elseif two[3] then least = two[4] end
local queues = redis.call('ZRANGE', QUEUES, 0, -1, 'WITHSCORES')
local any
for i = 1, #queues, 2 do
  -- Nearly all of many queues have nothing: they are asked for together.
  if (i - 1) % (2 * AT_ONCE) == 0 then any = any_jobs(queues, i, math.min(i + 2 * AT_ONCE - 1, #queues), 2) end
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
local schedule_in, next_schedule = '', redis.call('ZRANGE', SCHEDULES, 0, 0, 'WITHSCORES')[2]
if next_schedule and next_schedule ~= 'inf' then schedule_in = integer(tonumber(next_schedule) - now) end
-- Their queue is no pool's, so it is not among the others. What its jobs are for may be gone; they are taken out all the same.
local schedules_queue = queue_of(SCHEDULES_POOL)
if waiting(schedules_queue) > 0 then schedule_in = '0' end
if active(schedules_queue) > 0 then busy[#busy + 1] = { schedules_queue, 0, active(schedules_queue), 0, '' } end
local lists = {}
for i, status in ipairs({ 'pending', 'queued', 'retrying', 'completed', 'failed', 'timeout', 'cancelled' }) do lists[i] = tasks_key(status) end
local in_use = redis.call('EXISTS', AGENTS, QUEUES, WEBHOOKS, SCHEDULES, unpack(lists)) > 0 and 1 or 0
for _, key in ipairs({ DISPATCHERS, SWEEP, STATS, WOKEN }) do
  if in_use == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, HOUR) end
end
return {
  next_record and math.max(0, tonumber(next_record) - now) or -1,
  (next_look and tonumber(next_look) <= now or redis.call('HEXISTS', SWEEP, 'hold') == 1) and 1 or 0,
  next_webhook and tonumber(next_webhook) <= now and 1 or 0,
  busy,
  least,
  in_use,
  idle,
  schedule_in,
}
