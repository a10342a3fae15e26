-- Forgets ended records: those kept long enough, and the oldest of those over their number or their bytes. Looked at from the oldest on, by id. One
-- whose webhook may still be sent is handed over to that.
-- KEYS[1] base
-- ARGV[1] at most so many looked at of a status
-- ARGV[2…] for each status: its name, kept for ms, how many are kept, bytes kept, the id to go on behind or ''
-- Returns {how many were forgotten, 1 when some are still to be measured, for each status the id to go on behind next time or '' when that is the beginning}
--- @include "../redis/any-memory.lua"
--- @include "record.lua"
--- @include "weigh.lua"

-- Over their number or bytes too, a record stays so long after its end: whoever waits for it or asks again and again has seen it by then.
local LEAST_MS = 10000
-- Ids sort by submission, and nothing ends before it was submitted: behind records submitted less than their time ago there are none to
-- forget. Their clocks may differ a little, so it takes so many in a row to stop. A record submitted earlier that ended late stops
-- nothing: however many of them there are, those behind are looked at next time.
local YOUNG = 20
local function forget(id, callback)
  local webhook = callback and redis.call('HGET', webhook_key(id), 'status')
  if not webhook or webhook == 'delivered' then return redis.call('DEL', task_key(id)) end
  redis.call('RENAME', task_key(id), webhook_task_key(id))
  keep_for_webhook(id)
end
local now, most = now_ms(), tonumber(ARGV[1])
local answer = { 0, 0 }
for i = 2, #ARGV, 5 do
  local status, keep_ms, behind = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 4]
  local over, unmeasured = too_heavy(status, tonumber(ARGV[i + 3]), now)
  if unmeasured then answer[2] = 1 end
  over = math.max(over, redis.call('ZCARD', tasks_key(status)) - tonumber(ARGV[i + 2]))
  -- Of too many the oldest go first, if that may go yet; else those behind where the last look ended.
  local oldest = over > 0 and behind ~= '' and redis.call('ZRANGE', tasks_key(status), 0, 0)[1]
  if oldest and now >= tonumber(redis.call('HGET', task_key(oldest), 'ended') or 0) + math.min(LEAST_MS, keep_ms) then behind = '' end
  local ids = redis.call('ZRANGEBYLEX', tasks_key(status), behind == '' and '-' or '(' .. behind, '+', 'LIMIT', 0, most)
  local young = 0
  for _, id in ipairs(ids) do
    local t = redis.call('HMGET', task_key(id), 'ended', 'created', 'callback')
    local stays_ms = over > 0 and math.min(LEAST_MS, keep_ms) or keep_ms
    if not t[1] or now >= tonumber(t[1]) + stays_ms then
      forget(id, t[3])
      redis.call('ZREM', tasks_key(status), id)
      answer[1], over, young = answer[1] + 1, over - 1, 0
    else
      young = now < tonumber(t[2] or 0) + stays_ms and young + 1 or 0
      if young >= YOUNG then break end
    end
  end
  answer[#answer + 1] = young < YOUNG and #ids == most and ids[#ids] or ''
end
return answer
