-- Included by scripts that must run also when Redis has reached its `maxmemory`: they end work, renew what it stands on, or make room. Redis refuses
-- a script at its first write if that is one that may need memory, and none behind that: a change that has begun is not cut in two. So this is
-- a write that needs none, of a key that never is. (Redis 7 has a flag for it, by a first line that 6.2 does not understand.)
redis.call('DEL', base)
