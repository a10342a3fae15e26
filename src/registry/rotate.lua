-- Gives an agent a fresh salt, and so another secret. The one before counts beside it for a while.
-- KEYS[1] base   ARGV[1] id  [2] the fresh salt  [3] for how long the one before counts, ms
-- Returns nil when unknown, else the ms until which the one before counts
--- @include "slots.lua"

local salt = redis.call('HMGET', agent_key(ARGV[1]), 'salt', 'id')
if not salt[2] then return nil end
local now = now_ms()
local text = with_salt(salt[1] or ARGV[2], ARGV[2], tonumber(ARGV[3]), now)
redis.call('HSET', agent_key(ARGV[1]), 'salt', text)
return string.match(text, '^%S+ %S+ (%d+)')
