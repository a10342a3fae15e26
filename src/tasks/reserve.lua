-- Reserves slots for a queue's next jobs, takes the jobs and begins their attempts.
-- KEYS[1] base
-- ARGV[1] queue  [2] dispatcher  [3] how many attempts it has in flight
-- ARGV[4…] two unguessable tokens for each slot wanted: of its attempt, and of the lock on its job
-- Returns a list of slots {lease, queue, agent, name, host, port, salts, job, what begin.lua says of an attempt that has begun}. The queue of a slot may be
-- another one that the agent serves, when that one's head goes first.
--- @include "sending.lua"

local queue, dispatcher, in_flight = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now, turn = now_ms()
local pool = pool_of(queue)
redis.call('HDEL', WOKEN, queue)
local slots = {}
local i = 4
while ARGV[i] do
  if waiting(queue) == 0 then break end
  local id = next_agent(pool)
  if not id then break end
  local agent = read_agent(id)
  if not agent then
    redis.call('ZREM', pool_key(pool), id) -- its record has expired
  else
    local chosen = best_queue(agent.queues)
    local job = chosen and take_job(chosen, ARGV[i + 1], now)
    if not job then break end
    slots[#slots + 1] = send_or_hold(agent, chosen, job, ARGV[i], dispatcher, now, turn, false)
    i = i + 2
  end
end
redis.call('ZADD', DISPATCHERS, in_flight + #slots, dispatcher)
write_lists()
return slots
