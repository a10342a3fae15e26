-- Forgets webhooks: those whose time is over, and of too many, or with too many bytes of tasks that are kept for them alone, the first that would go,
-- which are the oldest of those that have ended.
-- KEYS[1] base   ARGV[1] at most so many stay  [2] at most so many at a time  [3] at most so many bytes
-- Returns {how many were forgotten, how many of them were still to be sent}
--- @include "../../redis/any-memory.lua"
--- @include "../record.lua"

local most = tonumber(ARGV[2])
local function too_heavy() return tonumber(redis.call('HGET', WEIGHT, 'webhooks') or 0) > tonumber(ARGV[3]) end
local too_many = redis.call('ZCARD', WEBHOOKS) - tonumber(ARGV[1])
local due = #redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', integer(now_ms()), 'LIMIT', 0, most)
local at_least = math.max(due, too_many)
local looked_at = too_heavy() and most or math.min(most, at_least)
local forgotten, dropped = 0, 0
for _, id in ipairs(looked_at > 0 and redis.call('ZRANGE', WEBHOOKS, 0, looked_at - 1) or {}) do
  if forgotten >= at_least and not too_heavy() then break end
  local w = redis.call('HMGET', webhook_key(id), 'status', 'to')
  if w[1] == 'pending' then
    local origin = webhook_origin(w[2])
    redis.call('ZREM', webhook_queue_key(origin), id)
    index_origin(origin)
    count('webhooks:dropped')
    dropped = dropped + 1
  end
  drop_webhook_task(id)
  redis.call('DEL', webhook_key(id))
  redis.call('ZREM', WEBHOOKS, id)
  forgotten = forgotten + 1
end
-- Nothing is kept: whatever the sum says (a version that did not count was at it, perhaps), it begins anew.
if redis.call('EXISTS', WEBHOOKS) == 0 then redis.call('HDEL', WEIGHT, 'webhooks') end
return { forgotten, dropped }
