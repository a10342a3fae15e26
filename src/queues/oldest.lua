-- The job that has been waiting longest in a queue. Included by scripts, after heads.lua.
--- @include "heads.lua"

-- The ids to choose from: the first that was added of each priority, and what came back from a dead worker. `prioritized` is sorted by
-- priority, then by order of adding, so a step for each priority in use finds them, however long the queue is.
local function oldest_candidates(queue)
  local ids = {}
  local back = redis.call('LINDEX', bull_key(queue, 'wait'), -1)
  if back then ids[1] = back end
  local from = '-inf'
  for _ = 1, 16 do
    local entry = redis.call('ZRANGEBYSCORE', bull_key(queue, 'prioritized'), from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not entry[1] then break end
    ids[#ids + 1] = entry[1]
    from = string.format('%.0f', (math.floor(tonumber(entry[2]) / 4294967296) + 1) * 4294967296)
  end
  return ids
end
