-- The dead letters of an agent type (tasks that have failed or timed out), from the newest on. Writes nothing.
-- KEYS[1] base
-- ARGV[1] look at so many at most  [2] find so many at most  [3] only those before this id, or ''  [4] of this task_type, or ''
--   [5] with this in the error (a–z in lower case), or ''  [6] 1 for those retried as well
-- Returns {how many were looked at, the id to go on behind or '' at the end, list of {id, task_type, beginning of the error} found}
--- @include "record.lua"

local SHOWN = 400 -- bytes
local TASK_TYPE = '^' .. string.rep('[^\t]*\t', 6) .. '([^\t]*)'
local most, enough, from = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '' and '+' or '(' .. ARGV[3]
local ids, all = {}, true
for _, status in ipairs({ 'failed', 'timeout' }) do
  local some = redis.call('ZREVRANGEBYLEX', tasks_key(status), from, '-', 'LIMIT', 0, most)
  if #some == most then all = false end
  for _, id in ipairs(some) do ids[#ids + 1] = id end
end
table.sort(ids, function(a, b) return a > b end)

local found, looked = {}, 0
while looked < math.min(#ids, most) and #found < enough do
  looked = looked + 1
  local t = redis.call('HMGET', task_key(ids[looked]), 'spec', 'error', 'retried_as')
  if t[1] and (not t[3] or ARGV[6] == '1') then
    local task_type, err = string.match(t[1], TASK_TYPE), t[2] or ''
    if (ARGV[4] == '' or task_type == ARGV[4]) and (ARGV[5] == '' or string.find(string.lower(err), ARGV[5], 1, true)) then
      found[#found + 1] = { ids[looked], task_type, string.sub(err, 1, SHOWN) }
    end
  end
end
return { looked, all and looked == #ids and '' or ids[looked], found }
