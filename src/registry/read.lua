-- Reads agents with what only Redis's clock can tell.
-- KEYS[1] base   ARGV the ids
-- Returns for each {list of the fields of its hash, empty when there is none; in flight; the ms at which its silence began; now}
--- @include "health.lua"

local now, answers = now_ms(), {}
for i, id in ipairs(ARGV) do
  local fields = redis.call('HGETALL', agent_key(id))
  local seen
  for f = 1, #fields, 2 do if fields[f] == 'seen' then seen = fields[f + 1] end end
  local in_flight = redis.call('ZCOUNT', leases_key(id), '(' .. integer(now), '+inf')
  answers[i] = { fields, in_flight, seen and integer(silent_since(seen, now)) or '0', integer(now) }
end
return answers
