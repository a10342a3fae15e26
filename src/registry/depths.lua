-- How much waits in the queues of an agent type, and for how long: for /metrics. Writes nothing.
-- KEYS[1] base   ARGV[1] how many of the queues used last to pass over  [2] at most so many queues
-- Returns for each {queue, waiting, delayed, active, ms since the oldest waiting task could go (0 when nothing waits)}
--- @include "slots.lua"
--- @include "../queues/oldest.lua"

local now, answers = now_ms(), {}
local from = tonumber(ARGV[1])
for _, queue in ipairs(redis.call('ZREVRANGE', QUEUES, from, from + tonumber(ARGV[2]) - 1)) do
  local waits, oldest = waiting(queue), now
  if waits > 0 then
    for _, id in ipairs(oldest_candidates(queue)) do
      local since = tonumber(redis.call('HGET', task_key(id), 'not_before') or now)
      if since < oldest then oldest = since end
    end
  end
  answers[#answers + 1] = { queue, waits, delayed(queue), active(queue), integer(now - oldest) }
end
return answers
