-- Whether agents live: silence is measured in Redis time, and forgiven when it was us who were away.
-- `out` of an agent is '' or why it gets nothing: `refused` (until its next beat), `silent` (0.75 of its TTL has passed), `dead`.
--- @include "slots.lua"

-- When no dispatcher has looked for so long (they look once a second), it was we who were away, or Redis: every agent gets one TTL
-- from now. Shorter than the shortest TTL, or an absence in between would kill.
local AWAY_MS = 3000
local LOOK_MS = 10000
-- The part of its TTL after which a silent agent gets nothing more.
local QUIET = 0.75

-- The ms at which the agent's silence began: its last beat, or the end of our own absence if that is later. That may be now: whoever
-- asks first, before anyone has noted that we are back, is told the same as those after. `sweep` is what `our_absence` says; given by
-- whoever asks for many agents.
local function our_absence() return redis.call('HMGET', SWEEP, 'grace', 'tick') end
local function silent_since(seen, now, sweep)
  sweep = sweep or our_absence()
  if sweep[2] and now - tonumber(sweep[2]) > AWAY_MS then return now end
  return math.max(tonumber(seen), tonumber(sweep[1] or 0))
end

-- The status that everyone is told, of an agent's fields: as it reported, or by its silence and `out`; `sick` (sick.lua) if it is that.
local function status_of(seen, ttl, out, reported, now, sick, sweep)
  local silence = (now - silent_since(seen, now, sweep)) / tonumber(ttl)
  if out == 'dead' or silence >= 1 then return 'dead' end
  if out ~= '' or silence >= QUIET then return 'unreachable' end
  if sick and (reported == 'healthy' or reported == 'degraded') then return 'unhealthy' end
  return reported
end
local function is_dead(seen, ttl, out, now) return status_of(seen, ttl, out, '', now) == 'dead' end

local function forgive_absence(now)
  local tick = redis.call('HGET', SWEEP, 'tick')
  if tick and now - tonumber(tick) > AWAY_MS then redis.call('HSET', SWEEP, 'grace', integer(now), 'tick', integer(now)) end
end

-- Frees the slots of an agent that has died, or is another one. What is parked at it goes on, for it may yet say what came of that: it keeps
-- its slot, until the agent denies it or its deadline comes.
local function ends_leases(id)
  local goes_on = {}
  for _, attempt in ipairs(redis.call('HKEYS', parked_key(id))) do
    local until_ms = redis.call('ZSCORE', leases_key(id), attempt)
    if until_ms then goes_on[#goes_on + 1] = { until_ms, attempt } end
  end
  redis.call('DEL', leases_key(id), cancels_key(id))
  for _, lease in ipairs(goes_on) do redis.call('ZADD', leases_key(id), lease[1], lease[2]) end
end

-- The agent knows nothing of a parked attempt: the sweeper looks at its task now, finds it missing here, and sends it again.
local function deny_parked(id, attempt, now)
  local task = redis.call('HGET', parked_key(id), attempt)
  if not task then return end
  redis.call('HDEL', parked_key(id), attempt)
  redis.call('ZADD', TIMERS, 'LT', integer(now), task)
end
local function deny_all_parked(id, now)
  for _, attempt in ipairs(redis.call('HKEYS', parked_key(id))) do deny_parked(id, attempt, now) end
end

-- What was held against an agent (sick.lua) is over: it was away for long, or is another one. Returns what its `trial` is now.
local function forgets_sickness(id, trial)
  redis.call('HDEL', agent_key(id), 'streak')
  if trial ~= 'sick' then return trial end
  redis.call('HDEL', agent_key(id), 'sick', 'trial')
  redis.call('HSET', agent_key(id), 'rest', '0')
  return false
end

-- Looks at one agent: marks it silent or dead, lets go of leases past their end, brings it back from a rest; says when to look again.
-- Returns 'dead' when it died now, 'gone' when its record has expired.
local function look(id, now)
  local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out', 'rest')
  if not a[1] then -- the record has expired: nothing is left to say
    redis.call('ZREM', AGENTS, id)
    redis.call('ZREM', WATCH, id)
    redis.call('DEL', leases_key(id))
    return 'gone'
  end
  local ttl, rest = tonumber(a[2]), tonumber(a[4])
  local since = silent_since(a[1], now)
  redis.call('ZREM', WATCH, id)
  if is_dead(a[1], ttl, a[3], now) then
    leave_pools(id)
    ends_leases(id)
    redis.call('HSET', agent_key(id), 'out', 'dead')
    local left = redis.call('PTTL', agent_key(id))
    if left > 0 then watch(id, now + left + 1000) end
    return a[3] ~= 'dead' and 'dead' or nil
  end
  local quiet_at = since + ttl * QUIET
  if a[3] == '' and now >= quiet_at then redis.call('HSET', agent_key(id), 'out', 'silent') end
  watch(id, now < quiet_at and quiet_at or since + ttl)
  if rest > now then watch(id, rest) end
  redis.call('ZREMRANGEBYSCORE', leases_key(id), '-inf', integer(now))
  local room = rescore(id, now)
  local first = redis.call('ZRANGE', leases_key(id), 0, 0, 'WITHSCORES')
  -- Leases that `finish` hands on and `begin` makes of holds are watched by nobody else: while there are any, look every 10 s.
  if first[2] then watch(id, math.min(tonumber(first[2]) + 1, now + LOOK_MS)) end
  if room then offer_all(id) end
end
