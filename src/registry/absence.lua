-- When it was us who were away: dispatchers look at each type once a second, and note when (`tick`). No look for long means that they all, or
-- Redis, were not there. What others could not tell us meanwhile is not held against them. `away` and `back`: from when to when that was, the
-- last time; `grace`: the end of the last that was long enough to forgive agents their silence.

-- So long without a look, and every agent gets one TTL from now. Shorter than the shortest TTL, or an absence in between would kill.
local AWAY_MS = 3000
-- And so long when a dispatcher's connection broke meanwhile: not its machine was slow then, but Redis was gone.
local BROKEN_MS = 500
-- What could not be told is told again for so long: agents try on, and pause in between (the SDKs 5 s at most, after a while).
local TELL_AGAIN_MS = 6000

-- Whoever comes first when we are back notes it.
local function forgive_absence(now, broken)
  local t = redis.call('HMGET', SWEEP, 'tick', 'away', 'back')
  local gap = t[1] and now - tonumber(t[1]) or 0
  if gap <= (broken and BROKEN_MS or AWAY_MS) then return end
  -- Hardly back, and away again: that is one absence.
  local away = t[3] and tonumber(t[1]) < tonumber(t[3]) + TELL_AGAIN_MS and t[2] or t[1]
  redis.call('HSET', SWEEP, 'away', away, 'back', integer(now), 'tick', integer(now))
  if gap > AWAY_MS then redis.call('HSET', SWEEP, 'grace', integer(now)) end
end

-- Until when a result may still be told whose time was up at `deadline`; nil when it could be told in time.
local function heard_until(deadline)
  local t = redis.call('HMGET', SWEEP, 'away', 'back')
  if not t[1] or deadline <= tonumber(t[1]) then return nil end
  local last = tonumber(t[2]) + TELL_AGAIN_MS
  return deadline < last and last or nil
end
