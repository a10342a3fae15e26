-- Notes that an agent type is in use. Awaited before anything is put under it: it is not forgotten for a while then.
-- KEYS[1] the base of the empty type   ARGV[1] type  [2] at most so many types
-- Returns 'known', 'new', or 'full' when there are too many to take another
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"

local known = redis.call('ZSCORE', TYPES, ARGV[1])
if not known and redis.call('ZCARD', TYPES) >= tonumber(ARGV[2]) then return 'full' end
redis.call('ZADD', TYPES, integer(now_ms()), ARGV[1])
return known and 'known' or 'new'
