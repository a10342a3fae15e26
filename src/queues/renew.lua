-- Renews the locks on jobs in hand, as BullMQ's own script does, which a Redis without memory refuses: then the jobs would come round, and be
-- sent twice, for nothing but that.
-- KEYS[1] base   ARGV[1] queue  [2] for how long, ms; then for each job: id; token
-- Returns the ids of those whose lock is not held by that token any more
--- @include "heads.lua"

local queue, ms, lost = ARGV[1], ARGV[2], {}
for i = 3, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  if redis.call('GET', lock_key(queue, id)) == token and redis.call('PEXPIRE', lock_key(queue, id), ms) == 1 then redis.call('SREM', bull_key(queue, 'stalled'), id)
  else lost[#lost + 1] = id end
end
return lost
