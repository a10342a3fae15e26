-- Makes tasks' records, puts the jobs of those that may go now in line, and tells a dispatcher where there is room; and notes the idempotency keys they came with.
-- The jobs of those whose time has not come are added next, by BullMQ; the sweeper looks after a while whether they were.
-- KEYS[1] base
-- ARGV, for each task: id; queue; delay ms, or ''; run at (ms since the epoch), or ''; expires in, ms; at most so many queues;
--   1 to refuse when no agent is alive for it; 1 when the id may be known already; 1 when the queue may be new; spec; parameters; metadata; traceparent or ''; retry_of or '';
--   callback or ''; the idempotency key's digest, or ''; that of what it stands for; for how long it is kept, ms;
--   for a schedule's run: schedule, tab, when it was due; else ''; at most so many tasks that wait in the queue; of the job its name, priority and options
-- Returns for each {'ok', status, created}, {'exists', status, created},
--   {'replayed', status, created, id} of the task first taken under the key, {'reused', its id} when that was another request, {'queues'}, {'full'}, {'no_agent'},
--   or of a retry {'retried', as which} or {'gone'}, or of a schedule's run {'submitted'} when it has been before, or is not to be any more
--- @include "record.lua"
--- @include "claim.lua"
--- @include "../queues/jobs.lua"
--- @include "../redis/batch.lua"

local now = now_ms()

local room = {} -- whether an agent of the pool has some: nothing here changes that
local function has_room(pool)
  if room[pool] == nil then room[pool] = next_agent(pool) ~= nil end
  return room[pool]
end

local to_wake = {}

local left = {} -- how many tasks more a queue takes
local function takes_one(queue, most)
  left[queue] = left[queue] or most - waiting(queue) - delayed(queue)
  return left[queue] > 0
end

-- What is kept under an idempotency key: what it stands for, and what was answered, with tabs between.
local function first_answer(key, request, id)
  local known = redis.call('GET', idempotency_key(key))
  if not known then return nil end
  local stood_for, first, status, created = string.match(known, '^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$')
  if stood_for ~= request then return { 'reused', first } end
  -- The same call once more, sent again because nobody heard of the first: it goes on.
  if first == id then return { 'ok', status, created } end
  return { 'replayed', status, created, first }
end

local function submit(id, queue, delay, run_at, expires_in, max_queues, require_agent, maybe_known, maybe_new, spec, parameters, metadata, traceparent, retry_of, callback,
    key, request, keep, schedule, max_waiting, job_name, job_priority, job_options)
  local first = key ~= '' and first_answer(key, request, id)
  if first then return first end
  if maybe_known == '1' then
    local known = redis.call('HMGET', task_key(id), 'status', 'created')
    if known[1] then return { 'exists', known[1], known[2] } end
  end
  local pool = pool_of(queue)
  local pinned = pinned_in(pool)
  if require_agent == '1' then
    local out = pinned and redis.call('HGET', agent_key(pinned), 'out')
    if out == 'dead' or not out and redis.call('ZCARD', pool_key(pool)) == 0 then return { 'no_agent' } end
  end
  if not takes_one(queue, tonumber(max_waiting)) then return { 'full' } end
  if maybe_new == '1' then
    if not redis.call('ZSCORE', QUEUES, queue) and redis.call('ZCARD', QUEUES) >= tonumber(max_queues) then return { 'queues' } end
    redis.call('ZADD', QUEUES, integer(now), queue)
    note_queue(queue)
    -- Agents look at the queue of tasks pinned to them only when there has been one.
    if pinned and redis.call('EXISTS', agent_key(pinned)) == 1 then redis.call('HSET', agent_key(pinned), 'pins', '1') end
  end
  if retry_of ~= '' then
    -- Marked together with what it is retried as: nobody who dies leaves a task that looks retried and is not, nor one retried twice.
    local old = redis.call('HMGET', task_key(retry_of), 'status', 'retried_as')
    if not old[1] then return { 'gone' } end
    if old[2] then return { 'retried', old[2] } end
    redis.call('HSET', task_key(retry_of), 'retried_as', id)
  end
  if schedule ~= '' and not take_claim(schedule, id, now) then return { 'submitted' } end
  local not_before = now
  if delay ~= '' then not_before = now + tonumber(delay) end
  if run_at ~= '' then not_before = math.max(now, tonumber(run_at)) end
  local status = not_before > now and 'pending' or 'queued'
  local expires = not_before + tonumber(expires_in)
  set_status(id, nil, status, 'created', integer(now), 'not_before', integer(not_before), 'expires', integer(expires), 'spec', spec,
    'parameters', parameters, 'metadata', metadata)
  if traceparent ~= '' then redis.call('HSET', task_key(id), 'traceparent', traceparent) end
  if retry_of ~= '' then redis.call('HSET', task_key(id), 'retry_of', retry_of) end
  if callback ~= '' then redis.call('HSET', task_key(id), 'callback', callback) end
  if key ~= '' then redis.call('SET', idempotency_key(key), table.concat({ request, id, status, integer(now) }, '\t'), 'PX', keep) end
  if schedule ~= '' then redis.call('HSET', task_key(id), 'schedule', schedule) end
  left[queue] = left[queue] - 1
  look_at(id, math.min(now + CONFIRM_MS, status == 'pending' and not_before or expires))
  if status == 'queued' then
    add_job(queue, id, job_name, job_priority, job_options, now)
    if has_room(pool) then to_wake[queue] = true end
  end
  return { 'ok', status, integer(now) }
end

return for_each(23, submit, function()
  put_in_line()
  write_lists()
  for queue in pairs(to_wake) do wake(queue) end
end)
