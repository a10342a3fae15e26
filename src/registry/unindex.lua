-- Takes agents out of the index of ids, where it still names this type for them.
-- KEYS[1] the base of the empty type   ARGV[1] type  [2…] ids
-- Returns the ids taken out
--- @include "../redis/any-memory.lua"

local gone = {}
for i = 2, #ARGV do
  if redis.call('HGET', AGENT_TYPES, ARGV[i]) == ARGV[1] then
    redis.call('HDEL', AGENT_TYPES, ARGV[i])
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
