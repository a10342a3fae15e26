-- Queues of an agent type in which work waits although an agent has room: for /health/ready, when nobody serves them. Writes nothing.
-- KEYS[1] base   ARGV[1] at most so many of the queues used last are looked at
-- Returns for each {queue, waiting, ms since the oldest waiting task could go}
--- @include "slots.lua"
--- @include "../queues/oldest.lua"

local now, found = now_ms(), {}
for _, queue in ipairs(redis.call('ZREVRANGE', QUEUES, 0, ARGV[1] - 1)) do
  local waits = waiting(queue)
  if waits > 0 and next_agent(pool_of(queue)) then
    local oldest = now
    for _, id in ipairs(oldest_candidates(queue)) do
      local since = tonumber(redis.call('HGET', task_key(id), 'not_before') or now)
      if since < oldest then oldest = since end
    end
    found[#found + 1] = { queue, waits, integer(now - oldest) }
  end
end
return found
