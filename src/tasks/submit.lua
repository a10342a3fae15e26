-- Makes a task's record. Its job is added next; the sweeper looks after a while whether it was.
-- KEYS[1] base
-- ARGV[1] id  [2] queue  [3] delay ms, or ''  [4] run at (ms since the epoch), or ''  [5] expires in, ms  [6] at most so many queues
-- ARGV[7] 1 to refuse when no agent is alive for it  [8…] name, value of further fields
-- Returns {'ok', status, created, 1 when an agent has room for it now}, {'exists', status, created, 1}, {'queues'} or {'no_agent'}
--- @include "record.lua"

local id, queue = ARGV[1], ARGV[2]
local known = redis.call('HMGET', task_key(id), 'status', 'created')
if known[1] then return { 'exists', known[1], known[2], 1 } end
local pool = pool_of(queue)
if ARGV[7] == '1' then
  local pinned = string.byte(pool) == 64 and redis.call('HGET', agent_key(string.sub(pool, 2)), 'out')
  if pinned == 'dead' or not pinned and redis.call('ZCARD', pool_key(pool)) == 0 then return { 'no_agent' } end
end
local now = now_ms()
local seen = redis.call('ZSCORE', QUEUES, queue)
if not seen and redis.call('ZCARD', QUEUES) >= tonumber(ARGV[6]) then return { 'queues' } end
if not seen or now - tonumber(seen) > 60000 then redis.call('ZADD', QUEUES, integer(now), queue) end
local not_before = now
if ARGV[3] ~= '' then not_before = now + tonumber(ARGV[3]) end
if ARGV[4] ~= '' then not_before = math.max(now, tonumber(ARGV[4])) end
local status = not_before > now and 'pending' or 'queued'
local expires = not_before + tonumber(ARGV[5])
set_status(id, nil, status, 'created', integer(now), 'not_before', integer(not_before), 'expires', integer(expires), unpack(ARGV, 8))
look_at(id, math.min(now + CONFIRM_MS, status == 'pending' and not_before or expires))
return { 'ok', status, integer(now), next_agent(pool) and 1 or 0 }
