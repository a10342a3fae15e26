-- Forgets ended records: those kept long enough, and the oldest of those over their number. Looked at from the oldest on, by id; a task
-- that took long to end may hold its place there meanwhile, and others are looked at behind it.
-- KEYS[1] base   ARGV[1] at most so many of a status  [2…] status, kept for ms, how many are kept, and so on
-- Returns 1 when there may be more to forget.
--- @include "record.lua"

-- Over their number too, a record stays so long after its end: one that was submitted long ago and ended just now is the oldest by id.
local LEAST_MS = 10000
local YOUNG = 20 -- so many in a row that stay, and the rest does too
local now, most, more = now_ms(), tonumber(ARGV[1]), 0
for i = 2, #ARGV, 3 do
  local status, keep_ms = ARGV[i], tonumber(ARGV[i + 1])
  local over = redis.call('ZCARD', tasks_key(status)) - tonumber(ARGV[i + 2])
  local ids = redis.call('ZRANGE', tasks_key(status), 0, most - 1)
  local young = 0
  for n, id in ipairs(ids) do
    local ended = redis.call('HGET', task_key(id), 'ended')
    if not ended or now >= tonumber(ended) + (n <= over and math.min(LEAST_MS, keep_ms) or keep_ms) then
      redis.call('DEL', task_key(id))
      redis.call('ZREM', tasks_key(status), id)
      young = 0
    else
      young = young + 1
      if n > over and young >= YOUNG then break end
    end
  end
  if #ids == most and young < YOUNG then more = 1 end
end
return more
