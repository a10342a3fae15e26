-- Forgets webhooks: those whose time is over, and of too many the first that would go, which are the oldest of those that have ended.
-- KEYS[1] base   ARGV[1] at most so many stay  [2] at most so many at a time
-- Returns {how many were forgotten, how many of them were still to be sent}
--- @include "../../redis/any-memory.lua"
--- @include "../record.lua"

local over = redis.call('ZCARD', WEBHOOKS) - tonumber(ARGV[1])
local ids = redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', integer(now_ms()), 'LIMIT', 0, ARGV[2])
if over > #ids then ids = redis.call('ZRANGE', WEBHOOKS, 0, math.min(over, tonumber(ARGV[2])) - 1) end
local dropped = 0
for _, id in ipairs(ids) do
  local w = redis.call('HMGET', webhook_key(id), 'status', 'to')
  if w[1] == 'pending' then
    local origin = webhook_origin(w[2])
    redis.call('ZREM', webhook_queue_key(origin), id)
    index_origin(origin)
    count('webhooks:dropped')
    dropped = dropped + 1
  end
  redis.call('DEL', webhook_key(id), webhook_task_key(id))
  redis.call('ZREM', WEBHOOKS, id)
end
return { #ids, dropped }
