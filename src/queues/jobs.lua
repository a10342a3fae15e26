-- The three steps that each task's job takes, as BullMQ's own scripts (6.7) would do them one by one at several times the cost: it is put in line, taken, and done.
-- Included by scripts that do with a record what goes with it, so that neither is ever seen without the other. They leave what BullMQ leaves (test/jobs.test.ts
-- holds the two against each other), but for the stream of events and the count of all jobs ever, which nobody here reads; all else is left to BullMQ.
--- @include "heads.lua"

local JOB_LOCK_MS = 10000 -- job.ts says it, too
local KEPT_JOBS = 200 -- of a queue, for the Board

-- What BullMQ's scripts need to know of a queue: of the events that they write, and nobody here reads, it keeps so many.
local function note_queue(queue) redis.call('HSET', bull_key(queue, 'meta'), 'opts.maxLenEvents', 100) end

-- By queue: the jobs of this call and their priorities, as BullMQ counts them.
local lines = {}
-- A job that is there stays as it is.
local function add_job(queue, id, name, priority, opts, now)
  local key = bull_key(queue, id)
  if redis.call('EXISTS', key) == 1 then return end
  redis.call('HSET', key, 'name', name, 'data', '{}', 'opts', opts, 'timestamp', string.format('%d', now), 'delay', '0', 'priority', priority)
  local line = lines[queue] or {}
  lines[queue] = line
  line[#line + 1] = priority
  line[#line + 1] = id
end
-- Behind the last add_job of a call.
local function put_in_line()
  for queue, line in pairs(lines) do
    -- The place in line: the priority above 32 bits that count up. In place of each priority its job's score.
    local count = #line / 2
    local last = redis.call('INCRBY', bull_key(queue, 'pc'), count)
    for i = 1, count do line[2 * i - 1] = string.format('%d', tonumber(line[2 * i - 1]) * 4294967296 + (last - count + i) % 4294967296) end
    redis.call('ZADD', bull_key(queue, 'prioritized'), unpack(line))
    redis.call('ZADD', bull_key(queue, 'marker'), 0, '0')
  end
  lines = {}
end

-- Takes the next job of a queue and locks it with a token; its id, or nil when none can go.
local function take_job(queue, token, now)
  local id = redis.call('RPOPLPUSH', bull_key(queue, 'wait'), bull_key(queue, 'active'))
  if not id then
    id = redis.call('ZPOPMIN', bull_key(queue, 'prioritized'))[1]
    if not id then
      redis.call('DEL', bull_key(queue, 'pc'))
      return nil
    end
    redis.call('LPUSH', bull_key(queue, 'active'), id)
  end
  redis.call('SET', lock_key(queue, id), token, 'PX', JOB_LOCK_MS)
  redis.call('HSET', bull_key(queue, id), 'processedOn', string.format('%d', now))
  redis.call('HINCRBY', bull_key(queue, id), 'ats', 1)
  return id
end

-- Is done with a job that its token still locks. `keep`: for the Board.
local function complete_job(queue, id, token, now, keep)
  local key = bull_key(queue, id)
  if redis.call('GET', lock_key(queue, id)) ~= token then return end
  redis.call('SREM', bull_key(queue, 'stalled'), id)
  redis.call('LREM', bull_key(queue, 'active'), -1, id)
  if not keep then
    redis.call('DEL', key, lock_key(queue, id))
    return
  end
  redis.call('DEL', lock_key(queue, id))
  redis.call('HINCRBY', key, 'atm', 1)
  redis.call('HSET', key, 'returnvalue', 'null', 'finishedOn', string.format('%d', now))
  local done = bull_key(queue, 'completed')
  redis.call('ZADD', done, string.format('%d', now), id)
  for _, old in ipairs(redis.call('ZREVRANGE', done, KEPT_JOBS, -1)) do redis.call('DEL', bull_key(queue, old)) end
  redis.call('ZREMRANGEBYRANK', done, 0, -(KEPT_JOBS + 1))
end
