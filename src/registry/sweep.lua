-- Looks at the agents whose time has come: takes the silent and the dead out of the pools, frees leases past their end.
-- KEYS[1] base   ARGV[1] at most so many agents
-- Returns {ids of those that died now, 1 when more are due, ids of those whose records have expired, what has changed about a mass silence
--   (hold_the_silent) or ''}
--- @include "../redis/any-memory.lua"
--- @include "health.lua"

local now, most = now_ms(), tonumber(ARGV[1])
forgive_absence(now)
if redis.call('HEXISTS', SWEEP, 'hold') == 1 then hold_the_silent(now) end
local due = redis.call('ZRANGEBYSCORE', WATCH, '-inf', integer(now), 'LIMIT', 0, most)
local died, gone = {}, {}
for _, id in ipairs(due) do
  local seen = look(id, now)
  if seen == 'dead' then died[#died + 1] = id elseif seen == 'gone' then gone[#gone + 1] = id end
end
return { died, #due == most and 1 or 0, gone, hold_news or '' }
