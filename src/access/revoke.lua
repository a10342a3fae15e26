-- Takes a key away, also when the store is full.
-- KEYS[1] base of the empty type   ARGV[1] the version this makes  [2] id
-- Returns 1 when it was there
--- @include "../redis/any-memory.lua"

redis.call('HDEL', ACCESS, 'used:' .. ARGV[2])
if redis.call('HDEL', ACCESS, 'key:' .. ARGV[2]) == 0 then return 0 end
redis.call('HSET', ACCESS, 'version', ARGV[1])
publish(access_channel(), ARGV[1])
return 1
