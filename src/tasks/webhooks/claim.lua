-- Takes webhooks that are due, to be sent: the oldest of each origin, at most so many.
-- KEYS[1] base   ARGV[1] token for these tries  [2] at most so many  [3] so many of an origin that is not named  [4…] origin, so many of it
-- Returns {1 when more are due, then for each a list: task, origin, URL}
--- @include "../../redis/any-memory.lua"
--- @include "../record.lua"

local MAX_ORIGINS = 256
local now, token, left = now_ms(), ARGV[1], tonumber(ARGV[2])
local room = {}
for i = 4, #ARGV, 2 do room[ARGV[i]] = tonumber(ARGV[i + 1]) end

local answer, more = { 0 }, false
local function claim(id, origin)
  local w = redis.call('HMGET', webhook_key(id), 'to', 'status', 'token', 'lost', 'next')
  if w[2] ~= 'pending' or not w[1] then return redis.call('ZREM', webhook_queue_key(origin), id) end
  local url = webhook_url(w[1])
  if w[3] then
    -- Whoever was sending it has not said what came of it. That costs no try of the schedule, but is not repeated without end.
    note_try(id, tonumber(w[5]), '', '', 'nobody said what came of it; it may have arrived')
    if redis.call('HINCRBY', webhook_key(id), 'lost', 1) > MAX_WEBHOOKS_LOST then return end_webhook(id, origin, 'failed', now) end
  end
  local off = redis.call('ZSCORE', WEBHOOKS_DISABLED, url)
  if off and tonumber(off) > now then return end_webhook(id, origin, 'disabled', now) end
  redis.call('HSET', webhook_key(id), 'token', token, 'next', integer(now))
  redis.call('ZADD', webhook_queue_key(origin), integer(now + WEBHOOK_LEASE_MS), id)
  answer[#answer + 1] = { id, origin, url }
  left = left - 1
end

local origins = redis.call('ZRANGEBYSCORE', WEBHOOK_ORIGINS, '-inf', integer(now), 'LIMIT', 0, MAX_ORIGINS)
for _, origin in ipairs(origins) do
  local most = math.min(room[origin] or tonumber(ARGV[3]), left)
  local due = redis.call('ZRANGEBYSCORE', webhook_queue_key(origin), '-inf', integer(now), 'LIMIT', 0, most + 1)
  for i = 1, math.min(#due, most) do claim(due[i], origin) end
  if #due > most then more = true end
  index_origin(origin)
end
if more or #origins == MAX_ORIGINS then answer[1] = 1 end
return answer
