-- Webhooks: the end of a task, told to its callback_url. Included by scripts that make one or change it. A task with a callback_url has
-- `callback` in its record: the URL's origin, a tab, the URL.
-- Fields of webhook:<task>: to (as `callback`) status (pending delivered failed disabled) next (when it is to be sent) token (of the try
--   under way, or of one whose sender died) round (tries failed since it was last asked for) lost (senders that died meanwhile)
--   tries (in all) a1 a2 … (the last of them) ended  bytes (of the task's record, once that is kept for nothing else; WEIGHT has their sum)
-- A try is kept as: sent at, status code, ms it took, error; with tabs between.
-- What is pending stands in the queue of its origin, a zset by time, so that one receiver that is slow keeps nobody else waiting; while it
-- is being sent its time is the end of the lease. webhook-origins has of each queue when to look at it: at its first, or when its rest ends.
-- `webhooks` has all there are, by when they are to be forgotten: those that have ended before all that are pending.

local WEBHOOK_LEASE_MS = 30000        -- a sender has so long to say what came of a try; else the next one sends it
local WEBHOOK_PENDING_MS = 864000000  -- nothing is pending for so long (10 days): the schedule has ended before
local WEBHOOK_KEPT_MS = 259200000     -- what has ended is kept for three days
local WEBHOOK_OFF_MS = 86400000       -- nothing is sent for so long to a URL that answered 410
local MAX_WEBHOOKS_OFF = 10000
local MAX_WEBHOOK_TRIES_KEPT = 20
local MAX_WEBHOOKS_LOST = 5

local function webhook_origin(to) return string.match(to, '^[^\t]*') end
local function webhook_url(to) return string.match(to, '[^\t]*$') end

-- When to look at the queue of an origin.
local function index_origin(origin)
  local first = redis.call('ZRANGE', webhook_queue_key(origin), 0, 0, 'WITHSCORES')[2]
  if not first then return redis.call('ZREM', WEBHOOK_ORIGINS, origin) end
  local rest = redis.call('ZSCORE', WEBHOOK_RESTS, origin)
  redis.call('ZADD', WEBHOOK_ORIGINS, integer(math.max(tonumber(first), tonumber(rest or 0))), origin)
end

-- Begins a round of tries.
local function put_webhook(id, to, now)
  local origin = webhook_origin(to)
  redis.call('HSET', webhook_key(id), 'to', to, 'status', 'pending', 'next', integer(now), 'round', 0, 'lost', 0)
  redis.call('HDEL', webhook_key(id), 'token', 'ended')
  redis.call('ZADD', webhook_queue_key(origin), integer(now), id)
  redis.call('ZADD', WEBHOOKS, integer(now + WEBHOOK_PENDING_MS), id)
  index_origin(origin)
end

-- There is a webhook to be sent. Should no dispatcher hear it, each looks once a second.
local function wake_for_webhooks() tell_a_dispatcher('webhooks\t' .. scope) end

-- Tasks have ended: those that are to be told of are put into the queue, with the end itself.
local function put_webhooks(ids, now)
  local any = false
  for _, id in ipairs(ids) do
    local to = redis.call('HGET', task_key(id), 'callback')
    if to then
      put_webhook(id, to, now)
      any = true
    end
  end
  if any then wake_for_webhooks() end
end

-- A try is over, or its sender is dead: the row that tells of it.
local function note_try(id, at, code, took, err)
  local n = redis.call('HINCRBY', webhook_key(id), 'tries', 1)
  redis.call('HSET', webhook_key(id), 'a' .. n, table.concat({ integer(at), code, took, err }, '\t'))
  if n > MAX_WEBHOOK_TRIES_KEPT then redis.call('HDEL', webhook_key(id), 'a' .. (n - MAX_WEBHOOK_TRIES_KEPT)) end
end

-- It is to be sent again then.
local function reschedule_webhook(id, origin, at)
  redis.call('HSET', webhook_key(id), 'next', integer(at))
  redis.call('HDEL', webhook_key(id), 'token')
  redis.call('ZADD', webhook_queue_key(origin), integer(at), id)
  index_origin(origin)
end

-- The task's record stays for this only, from now on; or goes.
local function keep_for_webhook(id)
  local bytes = redis.call('MEMORY', 'USAGE', webhook_task_key(id), 'SAMPLES', 0)
  redis.call('HSET', webhook_key(id), 'bytes', bytes)
  redis.call('HINCRBY', WEIGHT, 'webhooks', bytes)
end
local function drop_webhook_task(id)
  redis.call('DEL', webhook_task_key(id))
  local bytes = redis.call('HGET', webhook_key(id), 'bytes')
  if not bytes then return end
  redis.call('HDEL', webhook_key(id), 'bytes')
  if redis.call('HINCRBY', WEIGHT, 'webhooks', '-' .. bytes) <= 0 then redis.call('HDEL', WEIGHT, 'webhooks') end
end

-- No more tries. A record kept for it goes when it was delivered; else it may be asked for once more.
local function end_webhook(id, origin, status, now)
  redis.call('HSET', webhook_key(id), 'status', status, 'ended', integer(now))
  redis.call('HDEL', webhook_key(id), 'token', 'next')
  redis.call('ZREM', webhook_queue_key(origin), id)
  redis.call('ZADD', WEBHOOKS, integer(now + WEBHOOK_KEPT_MS), id)
  if status == 'delivered' then drop_webhook_task(id) end
  index_origin(origin)
  count('webhooks:' .. status)
end
