-- Keeps a namespace that is in use or that a key names, and forgets one that was neither for a while.
-- KEYS[1] base of the empty type
-- ARGV[1] namespace  [2] 1 when something was found under it  [3] after so long it is forgotten, ms
--- @include "../redis/any-memory.lua"

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_named()
  -- Within a name the quotes would be escaped.
  local member = '"namespace":"' .. ARGV[1] .. '"'
  local fields = redis.call('HGETALL', ACCESS)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 4) == 'key:' and string.find(fields[i + 1], member, 1, true) then return true end
  end
  return false
end

local last = redis.call('ZSCORE', NAMESPACES, ARGV[1])
if not last then return end
if ARGV[2] == '1' or is_named() then
  redis.call('ZADD', NAMESPACES, string.format('%d', now), ARGV[1])
elseif now - tonumber(last) >= tonumber(ARGV[3]) then
  redis.call('ZREM', NAMESPACES, ARGV[1])
end
