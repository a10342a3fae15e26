-- Begins a new round of tries, at once. A URL that was turned off is tried again.
-- KEYS[1] base   ARGV[1] task
-- Returns nil when unknown, {'not_ended', status}, {'none'} when it has no callback_url, or {'ok'}
--- @include "../record.lua"

local id, now = ARGV[1], now_ms()
local t = redis.call('HMGET', task_key(id), 'status', 'callback')
if not t[1] then t = redis.call('HMGET', webhook_task_key(id), 'status', 'callback') end
if not t[1] then return nil end
if not t[2] then return { 'none' } end
if not ENDS[t[1]] then return { 'not_ended', t[1] } end
redis.call('ZREM', WEBHOOKS_DISABLED, webhook_url(t[2]))
local origin = webhook_origin(t[2])
local due = redis.call('ZSCORE', webhook_queue_key(origin), id)
if due and tonumber(due) > now and redis.call('HEXISTS', webhook_key(id), 'token') == 1 then
  redis.call('HSET', webhook_key(id), 'round', 0, 'lost', 0) -- a try is under way: it is the first of the round
else
  put_webhook(id, t[2], now)
  wake_for_webhooks()
end
return { 'ok' }
