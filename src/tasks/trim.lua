-- Forgets ended records: those kept long enough, and the oldest of those over their number. Looked at from the oldest on, by id. One whose
-- webhook may still be sent is handed over to that.
-- KEYS[1] base
-- ARGV[1] at most so many looked at of a status
-- ARGV[2…] for each status: its name, kept for ms, how many are kept, the id to go on behind or ''
-- Returns {how many were forgotten, for each status the id to go on behind next time or '' when that is the beginning}
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

-- Over their number too, a record stays so long after its end: one that was submitted long ago and ended just now is the oldest by id.
local LEAST_MS = 10000
-- Ids sort by submission, and nothing ends before it was submitted: behind records submitted less than their time ago there are none to
-- forget. Their clocks may differ a little, so it takes so many in a row to stop. A record submitted earlier that ended late stops
-- nothing: however many of them there are, those behind are looked at next time.
local YOUNG = 20
local function forget(id, callback)
  local webhook = callback and redis.call('HGET', webhook_key(id), 'status')
  if webhook and webhook ~= 'delivered' then redis.call('RENAME', task_key(id), webhook_task_key(id)) else redis.call('DEL', task_key(id)) end
end
local now, most = now_ms(), tonumber(ARGV[1])
local answer = { 0 }
for i = 2, #ARGV, 4 do
  local status, keep_ms, behind = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3]
  local over = redis.call('ZCARD', tasks_key(status)) - tonumber(ARGV[i + 2])
  local ids = redis.call('ZRANGEBYLEX', tasks_key(status), (over > 0 or behind == '') and '-' or '(' .. behind, '+', 'LIMIT', 0, most)
  local young = 0
  for n, id in ipairs(ids) do
    local t = redis.call('HMGET', task_key(id), 'ended', 'created', 'callback')
    if not t[1] or now >= tonumber(t[1]) + (n <= over and math.min(LEAST_MS, keep_ms) or keep_ms) then
      forget(id, t[3])
      redis.call('ZREM', tasks_key(status), id)
      answer[1] = answer[1] + 1
      young = 0
    elseif n > over then
      young = now < tonumber(t[2] or 0) + keep_ms and young + 1 or 0
      if young >= YOUNG then break end
    end
  end
  answer[#answer + 1] = young < YOUNG and #ids == most and ids[#ids] or ''
end
return answer
