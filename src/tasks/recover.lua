-- The slots that a reserve has given, to a dispatcher which did not hear the answer.
-- KEYS[1] base   ARGV[1] queue  [2…] the tokens of that reserve
-- Returns slots as that does, none of them begun: begun once more under its token an attempt is the same
--- @include "../redis/any-memory.lua"
--- @include "sending.lua"

-- Those of the agents of its pool: an agent's next job may be of another queue.
local pinned = pinned_in(pool_of(ARGV[1]))
local queues, known = { ARGV[1] }, { [ARGV[1]] = true }
for _, id in ipairs(pinned and { pinned } or redis.call('ZRANGE', pool_key(pool_of(ARGV[1])), 0, 99)) do
  local agent = read_agent(id)
  for _, queue in ipairs(agent and agent.queues or {}) do
    if not known[queue] then
      known[queue] = true
      queues[#queues + 1] = queue
    end
  end
end
local slots = {}
for i = 2, #ARGV, 2 do
  local slot = handed_over(queues, ARGV[i], ARGV[i + 1])
  if slot then
    slot[9], slot[10] = false, ARGV[i + 1]
    slots[#slots + 1] = slot
  end
end
return slots
