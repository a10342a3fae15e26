-- Reads agents with what only Redis's clock can tell.
-- KEYS[1] base   ARGV the ids
-- Returns for each {list of the fields of its hash, in flight, status, the ms until which it rests or ''}, or nil when there is none
--- @include "health.lua"

local now, answers = now_ms(), {}
for i, id in ipairs(ARGV) do
  local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out', 'status', 'rest', 'trial')
  answers[i] = a[1] and {
    redis.call('HGETALL', agent_key(id)),
    redis.call('ZCOUNT', leases_key(id), '(' .. integer(now), '+inf'),
    status_of(a[1], a[2], a[3], a[4], now, a[6] == 'sick'),
    tonumber(a[5]) > now and a[5] or '',
  }
end
return answers
