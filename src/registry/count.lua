-- Counts agents by status, and their slots: for /metrics. Writes nothing.
-- KEYS[1] base   ARGV[1] the id to begin behind, or ''  [2] at most so many agents
-- Returns {slots used, slots free, agents that rest as they asked for, those suspected not to be there and kept, the last id looked at or ''
--   at the end, status, count, status, count…}
-- A slot is free when its agent may be given work now.
--- @include "health.lua"

local now, used, free, resting, suspects, counts = now_ms(), 0, 0, 0, 0, {}
local ids = redis.call('ZRANGEBYLEX', AGENTS, ARGV[1] == '' and '-' or '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out', 'status', 'rest', 'max', 'trial')
  if a[1] then
    local sick, rests = a[7] == 'sick', tonumber(a[5]) > now
    local status = status_of(a[1], a[2], a[3], a[4], now, sick)
    counts[status] = (counts[status] or 0) + 1
    if status ~= 'dead' then
      local taken = redis.call('ZCOUNT', leases_key(id), '(' .. integer(now), '+inf')
      used = used + taken
      if a[3] == 'suspect' then suspects = suspects + 1 end
      if sick then
        if not rests and status == 'unhealthy' and (a[4] == 'healthy' or a[4] == 'degraded') then free = free + math.max(0, 1 - taken) end
      elseif rests then resting = resting + 1
      elseif status == 'healthy' or status == 'degraded' then free = free + math.max(0, tonumber(a[6]) - taken) end
    end
  end
end
local answer = { used, free, resting, suspects, #ids == tonumber(ARGV[2]) and ids[#ids] or '' }
for status, n in pairs(counts) do
  answer[#answer + 1] = status
  answer[#answer + 1] = n
end
return answer
