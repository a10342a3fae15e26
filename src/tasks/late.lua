-- Keeps a result that came too late to count, beside the record: that of a former attempt, or one behind the end. The state is not touched.
-- KEYS[1] base
-- ARGV[1] id  [2] attempt  [3] completed or failed  [4] error or ''  [5] result as JSON text
-- Returns 1 when it is kept, 0 when the attempt was never one of this task, or the same is kept already
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

local MAX_LATE = 5 -- the last so many: l1 to l5 say whose each is and what, r1 to r5 hold the results
local id, attempt, result = ARGV[1], ARGV[2], ARGV[5]
local t = redis.call('HMGET', task_key(id), 'attempt', 'deliveries', 'sending', 'late')
local last = tonumber(t[2] or 0)
if last == 0 then return 0 end

local n = t[1] == attempt and last
for i = last - 1, math.max(1, last - MAX_DELIVERIES_KEPT), -1 do
  if n then break end
  if redis.call('HGET', task_key(id), 't' .. i) == attempt then n = i end
end
if not n then return 0 end

local agent = agent_in(n == last and t[3] or redis.call('HGET', task_key(id), 'a' .. n) or '')
local said = table.concat({ '', integer(n), agent, ARGV[3], ARGV[4] }, '\t')
for i = 1, MAX_LATE do
  local kept = redis.call('HMGET', task_key(id), 'l' .. i, 'r' .. i)
  if kept[1] and string.match(kept[1], '^%d+(.*)$') == said and kept[2] == result then return 0 end
end
local so_far = tonumber(t[4] or 0)
local at = so_far % MAX_LATE + 1
redis.call('HSET', task_key(id), 'late', so_far + 1, 'l' .. at, integer(now_ms()) .. said, 'r' .. at, result)
return 1
