-- Whether agents live: silence is measured in Redis time, and forgiven when it was us who were away.
-- `out` of an agent is '' or why it gets nothing: `refused` (until its next beat), `silent` (0.75 of its TTL has passed), `dead`; or `suspect`:
-- silent together with most others, kept, and tried last (hold_the_silent).
--- @include "slots.lua"
--- @include "absence.lua"

local LOOK_MS = 10000
-- The part of its TTL after which a silent agent gets nothing more.
local QUIET = 0.75

-- The ms at which the agent's silence began: its last beat, or the end of our own absence if that is later. That may be now: whoever
-- asks first, before anyone has noted that we are back, is told the same as those after. `sweep` is what `our_absence` says; given by
-- whoever asks for many agents.
local function our_absence() return redis.call('HMGET', SWEEP, 'grace', 'tick', 'hold') end
local function silent_since(seen, now, sweep)
  sweep = sweep or our_absence()
  if sweep[2] and now - tonumber(sweep[2]) > AWAY_MS then return now end
  return math.max(tonumber(seen), tonumber(sweep[1] or 0))
end

-- The status that everyone is told, of an agent's fields: as it reported, or by its silence and `out`; `sick` (sick.lua) if it is that.
local function status_of(seen, ttl, out, reported, now, sick, sweep)
  sweep = sweep or our_absence()
  local silence = (now - silent_since(seen, now, sweep)) / tonumber(ttl)
  local held = out ~= 'refused' and sweep[3] and now < tonumber(sweep[3])
  if out == 'dead' or (silence >= 1 and not held) then return 'dead' end
  if out ~= '' or silence >= QUIET then return 'unreachable' end
  if sick and (reported == 'healthy' or reported == 'degraded') then return 'unhealthy' end
  return reported
end
local function is_dead(seen, ttl, out, now) return status_of(seen, ttl, out, '', now) == 'dead' end

-- Mass silence: when half of the agents that are there have missed a beat at the same time, it is our network or our API before it is all of them.
-- Then those that fall silent are kept for a while, as suspects: in the pools behind all others, with one task at a time. One that answers is there;
-- one that nobody can connect to is refused, and dead when its TTL is over.
local MASS_LEAST = 10        -- of fewer agents each one counts for itself
local MISSED = 0.5           -- of its TTL: a beat is due after a third
local HOLD_AGENTS_MS = 900000
local MAX_COUNTED = 2000     -- agents looked at for that; enough to tell a half
local HOLD_SPENT_MS = 300000 -- so long after it those held are gone, and another mass silence may be seen

-- How many agents are there, those left out that refused a connection, and which of them have missed a beat; the longest TTL of these.
-- A suspect that has answered a task is there, and still misses its beats: did it not count, the hold would end with the first who got something to do,
-- and the others would be dead at once.
local function who_missed(now, sweep)
  local there, missed, longest = 0, {}, 0
  for _, id in ipairs(redis.call('ZRANGE', AGENTS, 0, MAX_COUNTED - 1)) do
    local a = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'out', 'beat')
    if a[1] and a[3] ~= 'dead' and a[3] ~= 'refused' then
      there = there + 1
      if now - silent_since(a[4] or a[1], now, sweep) >= tonumber(a[2]) * MISSED then
        missed[#missed + 1] = id
        longest = math.max(longest, tonumber(a[2]))
      end
    end
  end
  return there, missed, longest
end

-- Whether the silent are held. Asked when an agent has fallen silent, and while it is so; once a call.
-- `hold_news`: what has changed just now: {'held' or 'over', how many missed a beat, of how many, until ms}
local held_now, hold_news = nil, nil
local function hold_the_silent(now)
  if held_now ~= nil then return held_now end
  local sweep = our_absence()
  local till = tonumber(sweep[3] or nil)
  local there, missed, longest = who_missed(now, sweep)
  if till and (#missed * 4 < there or #missed == 0 or now > till + HOLD_SPENT_MS) then
    redis.call('HDEL', SWEEP, 'hold')
    -- It heals: those not heard yet get a TTL, or the first to beat would be the death of the last.
    if now < till then redis.call('HSET', SWEEP, 'grace', integer(now)) end
    hold_news = { 'over', #missed, there, '' }
    till = nil
  end
  held_now = till and now < till or false
  if till or there < MASS_LEAST or #missed * 2 < there then return held_now end
  till = now + math.max(HOLD_AGENTS_MS, longest)
  redis.call('HSET', SWEEP, 'hold', integer(till))
  redis.call('HINCRBY', STATS, 'mass_silences', 1)
  for _, id in ipairs(missed) do watch(id, now) end -- some got nothing already
  held_now, hold_news = true, { 'held', #missed, there, integer(till) }
  return true
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
  local quiet_at = since + ttl * QUIET
  local held = now >= quiet_at and a[3] ~= 'refused' and a[3] ~= 'dead' and hold_the_silent(now)
  redis.call('ZREM', WATCH, id)
  if is_dead(a[1], ttl, a[3], now) then
    leave_pools(id)
    ends_leases(id)
    redis.call('HSET', agent_key(id), 'out', 'dead')
    local left = redis.call('PTTL', agent_key(id))
    if left > 0 then watch(id, now + left + 1000) end
    return a[3] ~= 'dead' and 'dead' or nil
  end
  if now >= quiet_at and a[3] ~= 'refused' then
    local out = held and 'suspect' or 'silent'
    if a[3] ~= out then redis.call('HSET', agent_key(id), 'out', out) end
  end
  watch(id, now < quiet_at and quiet_at or held and now + LOOK_MS or since + ttl)
  if rest > now then watch(id, rest) end
  redis.call('ZREMRANGEBYSCORE', leases_key(id), '-inf', integer(now))
  local room = rescore(id, now)
  local first = redis.call('ZRANGE', leases_key(id), 0, 0, 'WITHSCORES')
  -- Leases that `finish` hands on and `begin` makes of holds are watched by nobody else: while there are any, look every 10 s.
  if first[2] then watch(id, math.min(tonumber(first[2]) + 1, now + LOOK_MS)) end
  if room then offer_all(id) end
end
