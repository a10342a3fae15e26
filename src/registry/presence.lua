-- Which dispatchers are making progress, in all; and, for one of them, which agent types there are.
-- KEYS[1] the base of the empty type   ARGV[1] dispatcher, or '' to ask only  [2] 1 while it makes progress, 0 when it leaves  [3] forgotten after, ms
-- Returns {how many there are, the types, for a dispatcher}.
--- @include "../redis/any-memory.lua"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local types = {}
if ARGV[1] ~= '' then
  if ARGV[2] == '1' then redis.call('ZADD', DISPATCHERS, string.format('%.0f', now), ARGV[1])
  else redis.call('ZREM', DISPATCHERS, ARGV[1]) end
  redis.call('ZREMRANGEBYSCORE', DISPATCHERS, '-inf', string.format('%.0f', now - tonumber(ARGV[3])))
  types = redis.call('ZRANGE', TYPES, 0, -1)
end
return { redis.call('ZCOUNT', DISPATCHERS, string.format('(%.0f', now - tonumber(ARGV[3])), '+inf'), types }
