-- Frees a lease that no attempt came of (or whose attempt is over), and offers the slot to whoever has work for it.
-- KEYS[1] base   ARGV[1] agent  [2] lease
-- Returns 1 when the lease was there.
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"

if redis.call('ZREM', leases_key(ARGV[1]), ARGV[2]) == 0 then return 0 end
if rescore(ARGV[1], now_ms()) then offer(ARGV[1]) end
return 1
