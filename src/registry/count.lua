-- Counts agents by status, and their slots: for /metrics. Writes nothing.
-- KEYS[1] base   ARGV[1] the id to begin behind, or ''  [2] at most so many agents
-- Returns {slots used, slots free, the last id looked at or '' at the end, status, count, status, count…}
-- Statuses are as registry.ts shows them. A slot is free when its agent may be given work now.
--- @include "health.lua"

local now, used, free, counts = now_ms(), 0, 0, {}
local ids = redis.call('ZRANGEBYLEX', AGENTS, ARGV[1] == '' and '-' or '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out', 'status', 'rest', 'max')
  if a[1] then
    local ttl, silence, status = tonumber(a[2]), now - silent_since(a[1], now), a[4]
    if a[3] == 'dead' or silence >= ttl then status = 'dead'
    elseif silence >= ttl * 0.75 or a[3] ~= '' then status = 'unreachable' end
    counts[status] = (counts[status] or 0) + 1
    if status ~= 'dead' then
      local taken = redis.call('ZCOUNT', leases_key(id), '(' .. integer(now), '+inf')
      used = used + taken
      if (status == 'healthy' or status == 'degraded') and tonumber(a[5]) <= now then free = free + math.max(0, tonumber(a[6]) - taken) end
    end
  end
end
local answer = { used, free, #ids == tonumber(ARGV[2]) and ids[#ids] or '' }
for status, n in pairs(counts) do
  answer[#answer + 1] = status
  answer[#answer + 1] = n
end
return answer
