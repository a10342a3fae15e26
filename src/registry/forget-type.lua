-- Forgets an agent type under which nothing was found, unless it was named lately: something may be about to be put there.
-- KEYS[1] the base of the empty type   ARGV[1] type  [2] after so long, ms
-- Returns 1 when it is forgotten
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"

local named = redis.call('ZSCORE', TYPES, ARGV[1])
if not named or now_ms() - tonumber(named) < tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', TYPES, ARGV[1])
