-- Signs of life. Each revives an agent that was silent, refused or dead: its record is kept for a day.
-- KEYS[1] base
-- ARGV, for each: how many arguments follow; id; kept for, ms; status or ''; max_concurrency or ''; most metadata fields;
--   when the agent said what is running, in ms, or a little before, '' when it did not; how many fields follow; m:<key>, value of each metadata field;
--   then the attempt ids that run
-- Returns for each nil when unknown, 'metadata' when there would be too many fields, else {ttl ms, status, list of attempts to cancel, list of attempts lost, now, its salts}
--- @include "../redis/any-memory.lua"
--- @include "health.lua"
--- @include "../redis/batch.lua"

local now = now_ms()
forgive_absence(now)
local sweep = our_absence()

-- A record is renewed when this much of its time is gone: not each beat is a write more for that.
local RENEW_MS = 600000

-- Whether a look at the agent would find nothing: it was heard in time, and nothing is held against it, nor has been since it was last heard.
local function is_settled(seen, ttl, out, trial, rest)
  return out == '' and not trial and tonumber(rest) <= tonumber(seen) and now - silent_since(seen, now, sweep) < tonumber(ttl) * QUIET
end

-- It is there (again).
local function comes_back(id, seen, ttl, out, trial)
  if is_dead(seen, ttl, out, now) then
    ends_leases(id)
    trial = forgets_sickness(id, trial)
  end
  if (out == 'refused' or out == 'dead') and trial ~= 'sick' then redis.call('HSET', agent_key(id), 'trial', '0') end
  redis.call('HSET', agent_key(id), 'out', '')
end

-- Holds what the agent says it runs, the ARGV from `first` on, against its leases (as ZRANGE gives them).
-- Returns lists of the attempts to cancel and those lost, and whether a slot came free.
local function compare(id, first, last, leases, known_by)
  local runs, leased, cancel, lost, freed = {}, {}, {}, {}, false
  for i = 1, #leases, 2 do leased[leases[i]] = true end
  local cancels = first <= last and redis.call('EXISTS', cancels_key(id)) == 1
  for i = first, last do
    local attempt = ARGV[i]
    runs[attempt] = true
    if not leased[attempt] then lost[#lost + 1] = attempt
    elseif cancels and redis.call('SISMEMBER', cancels_key(id), attempt) == 1 then cancel[#cancel + 1] = attempt end
  end
  -- An attempt begun before `known_by` that the agent does not know of is over: its slot comes back. A younger one may still be on its way to
  -- the agent, and a hold (`h.`) is no attempt yet.
  for i = 1, #leases, 2 do
    local began = tonumber(string.match(leases[i], '^(%d+)%.'))
    if began and began < known_by and not runs[leases[i]] then
      redis.call('ZREM', leases_key(id), leases[i])
      redis.call('SREM', cancels_key(id), leases[i])
      deny_parked(id, leases[i], now)
      freed = true
    end
  end
  return cancel, lost, freed
end

local function beat_of(first, last)
  local id, keep, status, max, most, said_at, fields = unpack(ARGV, first, first + 6)
  local more = first + 7
  local old = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'status', 'out', 'trial', 'beat', 'salt', 'rest', 'max')
  if not old[1] then return false end
  fields = tonumber(fields)
  if fields > 0 then
    local before = redis.call('HLEN', agent_key(id))
    for i = more, more + fields * 2 - 1, 2 do
      if redis.call('HEXISTS', agent_key(id), ARGV[i]) == 0 then before = before + 1 end
    end
    if before > tonumber(most) then return 'metadata' end
    redis.call('HSET', agent_key(id), unpack(ARGV, more, more + fields * 2 - 1))
  end
  local settled = is_settled(old[1], old[2], old[4], old[5], old[8])
  if not settled then comes_back(id, old[1], old[2], old[4], old[5]) end
  redis.call('HSET', agent_key(id), 'seen', integer(now))
  local beat = tonumber(old[6] or old[1]) -- the one before: `seen` may also be when a suspect answered (finish.lua)
  if old[6] then redis.call('HDEL', agent_key(id), 'beat') end
  if status ~= '' and status ~= old[3] then
    redis.call('HSET', agent_key(id), 'status', status)
    settled = false
  end
  if max ~= '' and max ~= old[9] then
    redis.call('HSET', agent_key(id), 'max', max)
    settled = false
  end
  if redis.call('PTTL', agent_key(id)) < tonumber(keep) then redis.call('PEXPIRE', agent_key(id), integer(keep + RENEW_MS)) end

  local leases = redis.call('ZRANGE', leases_key(id), 0, said_at ~= '' and -1 or 0, 'WITHSCORES')
  local cancel, lost, freed = {}, {}, false
  -- A beat that took long to come here may have been overtaken by others: it knows of nothing that began behind its own time.
  if said_at ~= '' then cancel, lost, freed = compare(id, more + fields * 2, last, leases, math.min(beat, tonumber(said_at))) end
  local ends = tonumber(leases[2])
  if not settled or freed or (ends and ends <= now) then
    redis.call('ZREM', WATCH, id)
    look(id, now)
  elseif ends then -- as a look would
    watch(id, math.min(ends + 1, now + LOOK_MS))
    rescore(id, now)
  else redis.call('ZADD', WATCH, integer(now + old[2] * QUIET), id) end -- silence is all there is to look for
  return { old[2], status ~= '' and status or old[3], cancel, lost, integer(now), salts_of(old[7]) }
end

return for_each_of_any_length(beat_of)
