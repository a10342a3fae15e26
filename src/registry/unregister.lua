-- The agent leaves: it gets no new task. What it is running may still end, also what is parked at it, until its deadline; its record goes,
-- tasks pinned to it wait for it to come back.
-- KEYS[1] base   ARGV[1] id  [2] which life of it leaves, `<generation> <registered>`, or '': whichever
-- Returns 1 when it was there; 'another' when another life of it has begun: that goes on.
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"

local id = ARGV[1]
local life = redis.call('HMGET', agent_key(id), 'generation', 'registered')
if ARGV[2] ~= '' and life[1] and life[1] .. ' ' .. life[2] ~= ARGV[2] then return 'another' end
leave_pools(id)
redis.call('ZREM', AGENTS, id)
redis.call('ZREM', WATCH, id)
-- What it is running still counts when it comes back.
redis.call('PEXPIRE', leases_key(id), DAY_MS)
return redis.call('DEL', agent_key(id), cancels_key(id)) > 0 and 1 or 0
