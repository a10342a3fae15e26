-- Forgets the agents that are dead now, at once.
-- KEYS[1] base   ARGV[1] at most so many looked at  [2] the id to begin behind
-- Returns {removed ids, last id looked at or ''}
--- @include "../redis/any-memory.lua"
--- @include "health.lua"

local now, removed = now_ms(), {}
local ids = redis.call('ZRANGEBYLEX', AGENTS, ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out')
  if not a[1] or is_dead(a[1], a[2], a[3], now) then
    leave_pools(id)
    ends_leases(id)
    redis.call('PEXPIRE', leases_key(id), DAY_MS) -- of what is parked at it: they count should it come back
    redis.call('DEL', agent_key(id))
    redis.call('ZREM', AGENTS, id)
    redis.call('ZREM', WATCH, id)
    removed[#removed + 1] = id
  end
end
return { removed, #ids > 0 and ids[#ids] or '' }
