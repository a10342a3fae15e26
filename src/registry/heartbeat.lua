-- Signs of life. Each revives an agent that was silent, refused or dead: its record is kept for a day.
-- KEYS[1] base
-- ARGV, for each: how many arguments follow; id; kept for, ms; status or ''; max_concurrency or ''; most metadata fields;
--   when the agent said what is running, in ms, or a little before, '' when it did not; how many fields follow; m:<key>, value of each metadata field;
--   then the attempt ids that run
-- Returns for each nil when unknown, 'metadata' when there would be too many fields, else {ttl ms, status, list of attempts to cancel, list of attempts lost, now, its salts}
--- @include "../redis/any-memory.lua"
--- @include "health.lua"
--- @include "../redis/batch.lua"

local function beat_of(first, last)
  local id, keep, status, max, most, said_at, fields = unpack(ARGV, first, first + 6)
  local more = first + 7
  local old = redis.call('HMGET', agent_key(id), 'seen', 'ttl', 'status', 'out', 'trial', 'beat', 'salt')
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
  local now = now_ms()
  forgive_absence(now)
  if is_dead(old[1], old[2], old[4], now) then
    ends_leases(id)
    old[5] = forgets_sickness(id, old[5])
  end
  if (old[4] == 'refused' or old[4] == 'dead') and old[5] ~= 'sick' then redis.call('HSET', agent_key(id), 'trial', '0') end
  redis.call('HSET', agent_key(id), 'seen', integer(now), 'out', '')
  local beat = tonumber(old[6] or old[1]) -- the one before: `seen` may also be when a suspect answered (finish.lua)
  if old[6] then redis.call('HDEL', agent_key(id), 'beat') end
  if status ~= '' then redis.call('HSET', agent_key(id), 'status', status) end
  if max ~= '' then redis.call('HSET', agent_key(id), 'max', max) end
  redis.call('PEXPIRE', agent_key(id), keep)

  local cancel, lost = {}, {}
  if said_at ~= '' then
    local runs = {}
    for i = more + fields * 2, last do
      runs[ARGV[i]] = true
      if not redis.call('ZSCORE', leases_key(id), ARGV[i]) then lost[#lost + 1] = ARGV[i]
      elseif redis.call('SISMEMBER', cancels_key(id), ARGV[i]) == 1 then cancel[#cancel + 1] = ARGV[i] end
    end
    -- An attempt begun before the previous beat that the agent does not know of is over: its slot comes back. A younger one may
    -- still be on its way to the agent, and a hold (`h.`) is no attempt yet. A beat that took long to come here may have been overtaken by others:
    -- it knows of nothing that began behind its own time.
    local known_by = math.min(beat, tonumber(said_at))
    for _, member in ipairs(redis.call('ZRANGE', leases_key(id), 0, -1)) do
      local began = tonumber(string.match(member, '^(%d+)%.'))
      if began and began < known_by and not runs[member] then
        redis.call('ZREM', leases_key(id), member)
        redis.call('SREM', cancels_key(id), member)
        deny_parked(id, member, now)
      end
    end
  end
  redis.call('ZREM', WATCH, id)
  look(id, now)
  return { old[2], status ~= '' and status or old[3], cancel, lost, integer(now), salts_of(old[7]) }
end

return for_each_of_any_length(beat_of)
