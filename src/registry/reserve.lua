-- Reserves slots for a queue's next jobs, before the jobs are fetched.
-- KEYS[1] base
-- ARGV[1] queue  [2] dispatcher  [3] how many attempts it has in flight
-- ARGV[4…] one unguessable token for each slot wanted
-- Returns a list of slots {lease, queue, agent, name, host, port, single}. The queue of a slot may be another one that the
-- agent serves, when that one's head goes first.
--- @include "slots.lua"

local queue, dispatcher, in_flight = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now, turn = now_ms()
local pool = pool_of(queue)
redis.call('HDEL', WOKEN, queue)
local left = waiting(queue)
local taken, slots = {}, {}
for i = 4, #ARGV do
  if left <= 0 then break end
  local id = next_agent(pool)
  if not id then break end
  local agent = read_agent(id)
  if not agent then
    redis.call('ZREM', pool_key(pool), id) -- its record has expired
  else
    local chosen = best_queue(agent.queues, taken)
    if not chosen then break end
    taken[chosen] = (taken[chosen] or 0) + 1
    if chosen == queue then left = left - 1 end
    local member = 'h.' .. ARGV[i]
    lease(agent, member, now + HOLD_MS, now, turn)
    slots[#slots + 1] = slot_reply(agent, member, chosen)
  end
end
redis.call('ZADD', DISPATCHERS, in_flight + #slots, dispatcher)
return slots
