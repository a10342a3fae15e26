-- Parks an attempt whose agent has said 202: its result comes by callback, and no dispatcher holds its job any more. The job stands aside
-- under a lock of the attempt's own, which only who ends the attempt can open.
-- KEYS[1] base   ARGV[1] id  [2] attempt  [3] the dispatcher's lock on the job
-- Returns {'parked', ms until the deadline}
--   {'over', status, ms until it may go again}   the callback was quicker than the 202, and the job is still in our hands
--   {'cancelled'}                                a cancel came first: the attempt is the dispatcher's to end
--   {'lost'}                                     so is the job: another dispatcher has it, or will
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

local id, attempt, lock = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local t = redis.call('HMGET', task_key(id), 'attempt', 'status', 'sending', 'spec', 'not_before', 'cancel', 'deliveries')
if t[1] ~= attempt or redis.call('GET', lock_key(queue_in(t[4]), id)) ~= lock then return { 'lost' } end
if t[2] ~= 'sent' and t[2] ~= 'running' then return { 'over', t[2], integer(math.max(0, tonumber(t[5]) - now)) } end
if t[6] == '1' then return { 'cancelled' } end
local deadline = deadline_in(t[3])
local left = math.max(0, deadline - now)
redis.call('SET', lock_key(queue_in(t[4]), id), attempt, 'PX', integer(left + PARKED_MS))
set_aside(queue_in(t[4]), id)
redis.call('HSET', parked_key(agent_in(t[3])), attempt, id)
redis.call('HSET', task_key(id), 'parked', PARKED)
if t[2] == 'sent' then -- else it has told its progress already
  about[id] = { t[7], agent_in(t[3]), '' }
  set_status(id, t[2], 'running')
end
look_at(id, deadline)
write_lists()
return { 'parked', integer(left) }
