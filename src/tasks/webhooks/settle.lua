-- Says what came of a try, if it is still the one under way.
-- KEYS[1] base   ARGV[1] task  [2] token  [3] what: delivered, failed, disabled, over (failed, and no other try
--   is of use) or back (not sent after all)  [4] sent at, ms before now
--   [5] status code or ''  [6] ms it took  [7] error or ''  [8] the next not before so many ms  [9] the origin is to be left alone so many ms, or 0
--   [10…] ms to wait after the first, second… try of a round that failed; after the last of them it has failed
-- Returns nil when another try has begun since, else {status, ms until the next try or ''}
--- @include "../../redis/any-memory.lua"
--- @include "../record.lua"

local id, token, what = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local w = redis.call('HMGET', webhook_key(id), 'token', 'to', 'round')
if w[1] ~= token then return nil end
local origin = webhook_origin(w[2])

if ARGV[9] ~= '0' then
  redis.call('ZADD', WEBHOOK_RESTS, integer(now + tonumber(ARGV[9])), origin)
  redis.call('ZREMRANGEBYSCORE', WEBHOOK_RESTS, '-inf', integer(now))
  redis.call('PEXPIRE', WEBHOOK_RESTS, WEBHOOK_OFF_MS) -- longer than any rest
end
if what == 'back' then
  reschedule_webhook(id, origin, now)
  return { 'pending', 0 }
end
note_try(id, now - tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7])
count('webhook_tries:' .. (what == 'delivered' and what or 'failed'))
local wait = what == 'failed' and ARGV[10 + tonumber(w[3])]
if wait then
  wait = math.max(tonumber(wait), tonumber(ARGV[8]))
  redis.call('HINCRBY', webhook_key(id), 'round', 1)
  reschedule_webhook(id, origin, now + wait)
  return { 'pending', integer(wait) }
end
if what == 'disabled' then
  redis.call('ZADD', WEBHOOKS_DISABLED, integer(now + WEBHOOK_OFF_MS), webhook_url(w[2]))
  redis.call('ZREMRANGEBYSCORE', WEBHOOKS_DISABLED, '-inf', integer(now))
  redis.call('ZREMRANGEBYRANK', WEBHOOKS_DISABLED, 0, -MAX_WEBHOOKS_OFF - 1)
  redis.call('PEXPIRE', WEBHOOKS_DISABLED, WEBHOOK_OFF_MS)
end
local status = what == 'over' and 'failed' or what
end_webhook(id, origin, status, now)
return { status, '' }
