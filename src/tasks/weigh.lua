-- What the ended records of a status take of Redis's memory, by its own account (MEMORY USAGE) and with their place in the list. Included by trim.lua, so that nothing is
-- counted where tasks go through. Records are measured behind their end, by stretches of the list: neighbours by id. How many a stretch has now the list
-- itself says, in one step; so what ended late or has gone since counts as much as its neighbours do, until they are measured anew, and nothing drifts away
-- from what is there.
-- A stretch is text: last id, how many were measured, bytes of those, how many there are, when it was measured. They stand in a zset, by id. The hash
-- WEIGHT has of each status: bytes, of how many records, behind which id stretches are looked at next, when they were looked at last.

local STRETCH = 1000        -- records of a stretch,
local PARTS = 64            -- or as large a part of what may be kept: by one stretch an answer may be wrong
local LEAST_PART = 65536    -- bytes
local WEIGHED_AT_ONCE = 250 -- new ones
local OLDEST, OTHERS = 4, 12 -- stretches looked at for what has changed: those that go first, and of the others some in turn
local LOOK_MS = 60000       -- also where nothing seems to have
local MUCH = 1.5            -- one that has so much more is measured anew at once,
local SOME, SOME_MS = 1.02, 30000 -- one that has a little more when it was not for so long,
local ANY_MS = 60000       -- one that has any more when it was not for so long: what ends late may be larger than its neighbours,
local ANEW_MS = 3600000     -- and any within the hour: records may grow behind their end, by results that come too late
local PLACE_BYTES = 135     -- in the list

-- One stretch is measured anew in a call, of whatever status: Redis does nothing else meanwhile.
local is_enough = false
local function stretch_in(text)
  local last, measured, bytes, count, at = string.match(text, '^(%S+) (%d+) (%d+) (%d+) (%d+)$')
  return { text = text, last = last, measured = tonumber(measured), bytes = tonumber(bytes), count = tonumber(count), at = tonumber(at) }
end
local function weight_of(stretch) return stretch and math.floor(stretch.bytes * stretch.count / stretch.measured) or 0 end
-- Measures so many records of a list, from one on, into a stretch that is not full.
local function measure(stretch, list, from, to, most, part)
  for _, id in ipairs(redis.call('ZRANGEBYLEX', list, from, to, 'LIMIT', 0, math.min(most, STRETCH - stretch.measured))) do
    if stretch.bytes >= part then break end
    stretch.last, stretch.measured, stretch.count = id, stretch.measured + 1, stretch.count + 1
    stretch.bytes = stretch.bytes + (redis.call('MEMORY', 'USAGE', task_key(id), 'SAMPLES', 0) or 0) + PLACE_BYTES
  end
  return stretch
end

-- How many of the oldest records are to go for the others to take no more than `limit` bytes; and whether there are more to be measured: ask again.
local function too_heavy(status, limit, now)
  local list, stretches, part = tasks_key(status), stretches_key(status), math.max(LEAST_PART, limit / PARTS)
  local COUNT, NEXT, LOOKED = status .. ':count', status .. ':next', status .. ':looked'
  local newest, known = redis.call('ZRANGE', list, -1, -1)[1], redis.call('HMGET', WEIGHT, status, COUNT, NEXT, LOOKED)
  if not newest then
    if known[1] then
      redis.call('DEL', stretches)
      redis.call('HDEL', WEIGHT, status, COUNT, NEXT, LOOKED)
    end
    return 0, false
  end
  local more = false
  local total, counted, next_behind, looked = tonumber(known[1] or 0), tonumber(known[2] or 0), known[3] or '', tonumber(known[4] or 0)

  local function replace(old, new)
    if old then redis.call('ZREM', stretches, old.text) end
    if new and new.count > 0 then redis.call('ZADD', stretches, 0, table.concat({ new.last, integer(new.measured), integer(new.bytes), integer(new.count), integer(new.at) }, ' ')) end
    total = total + weight_of(new) - weight_of(old)
    counted = counted + (new and new.count or 0) - (old and old.count or 0)
  end
  local function empty() return { measured = 0, bytes = 0, count = 0, at = now } end
  -- The same, with as many records as there are now; or measured as if there were `measured` of them.
  local function changed(stretch, count, measured)
    local bytes = measured and math.ceil(stretch.bytes * measured / stretch.measured) or stretch.bytes
    return { last = stretch.last, measured = measured or stretch.measured, bytes = bytes, count = count, at = stretch.at }
  end
  -- Sets a stretch right, which begins behind `id`: by its number, or measured anew, in part if it has become long.
  local goes_on -- behind this id something is left to be measured
  local function look_at_stretch(stretch, id)
    local from = id ~= '' and '(' .. id or '-'
    local count = redis.call('ZLEXCOUNT', list, from, '[' .. stretch.last)
    local age = now - stretch.at
    local is_due = age >= ANEW_MS or age >= SOME_MS and count > SOME * stretch.measured or age >= ANY_MS and count > stretch.measured or count > MUCH * stretch.measured
    if is_due then more = true end
    if count == 0 or not is_due or is_enough then
      if is_due and count > 0 then goes_on = goes_on or id end
      if count ~= stretch.count then replace(stretch, changed(stretch, count)) end
      return
    end
    is_enough = true
    local first = measure(empty(), list, from, '[' .. stretch.last, STRETCH, part)
    local rest = count - first.count
    if rest == 0 then first.last = stretch.last else goes_on = goes_on or first.last end
    -- The rest seems to have become twice what was measured, and is next.
    replace(stretch, rest > 0 and changed(stretch, rest, math.ceil(rest / 2)) or nil)
    replace(nil, first)
  end
  -- Looks at so many, from the one that has the first id behind `id` on; returns the last id of those. (A space stands behind an id, and sorts before `~`.)
  local function look_behind(id, most)
    local before = redis.call('ZREVRANGEBYLEX', stretches, '(' .. id .. ' ~', '-', 'LIMIT', 0, 1)[1]
    local behind = before and stretch_in(before).last or ''
    for _, text in ipairs(redis.call('ZRANGEBYLEX', stretches, '(' .. id .. ' ~', '+', 'LIMIT', 0, most)) do
      local stretch = stretch_in(text)
      look_at_stretch(stretch, behind)
      behind = stretch.last
    end
    return behind
  end

  local tail = redis.call('ZRANGE', stretches, -1, -1)[1]
  tail = tail and stretch_in(tail)
  local last = tail and tail.last
  if last ~= newest or counted ~= redis.call('ZCARD', list) or now >= looked + LOOK_MS then
    -- What is new makes the last stretch longer, or is one of its own. There may be nothing behind the last one, though it is the newest no more: it has gone.
    if last ~= newest then
      local open = tail and tail.measured < STRETCH and tail.count < STRETCH and tail.bytes < part and tail
      local new = measure(open and changed(open, open.count) or empty(), list, last and '(' .. last or '-', '+', WEIGHED_AT_ONCE, part)
      if new.last and new.last ~= last then
        replace(open or nil, new)
        more = new.last ~= newest
      end
    end
    look_behind('', OLDEST)
    local to = look_behind(next_behind, OTHERS)
    if to == next_behind then to = '' end -- that was the last one: from the first on
    redis.call('HSET', WEIGHT, status, integer(total), COUNT, integer(counted), NEXT, goes_on or to, LOOKED, more and 0 or integer(now))
  end

  local over, excess = 0, total - limit
  for _, text in ipairs(excess > 0 and redis.call('ZRANGE', stretches, 0, OTHERS - 1) or {}) do
    local stretch = stretch_in(text)
    local weight = weight_of(stretch)
    if weight > excess then
      over = over + math.ceil(stretch.count * excess / weight)
      break
    end
    over, excess = over + stretch.count, excess - weight
  end
  return over, more
end
