-- Notes that agent types are in use. Awaited before anything is put under one: it is not forgotten for a while then.
-- KEYS[1] the base of the empty type   ARGV, for each: type, at most so many types
-- Returns for each 'known', 'new', or 'full' when there are too many to take another
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"
--- @include "../redis/batch.lua"

local now = integer(now_ms())
local function name(type, most)
  local known = redis.call('ZSCORE', TYPES, type)
  if not known and redis.call('ZCARD', TYPES) >= tonumber(most) then return 'full' end
  redis.call('ZADD', TYPES, now, type)
  return known and 'known' or 'new'
end

return for_each(2, name, function() end)
