-- How many retries an agent type may make: a fifth as many as it makes first attempts, and 10 a second at least, counted over 10 s. When much of
-- it fails, retries would otherwise come on top of the work that makes it fail. What is over the budget waits for its turn; it costs nothing,
-- and never more than 5 minutes. Included by failed.lua, so only what fails costs anything.
-- The hash `retry_budget`: `line`, the ms up to which the budget is spent; `at`, `done`, `firsts`: since when first attempts are counted, the
-- attempts that had completed by then (as /metrics counts them, a second late), and the first attempts that have failed since; `rate`, first
-- attempts a second, as last counted.
local RETRY_SHARE = 0.2
local RETRIES_A_SECOND = 10
local SAVED_MS = 10000          -- so much of the budget may be spent at once
local MAX_POSTPONED_MS = 300000
local COUNTED_MS = 5000         -- the rate is counted anew so often,
local FIRST_COUNTED_MS = 1000   -- and sooner at first, when it is not known
local BUDGET_KEPT_MS = 600000

local function retries_a_second(rate) return math.max(RETRIES_A_SECOND, rate * RETRY_SHARE) end

-- One more task is to be retried, behind its first attempt or a later one. Returns for how many ms the budget makes it wait; 0 mostly.
local function over_budget(id, is_first, now)
  local b = redis.call('HMGET', RETRY_BUDGET, 'line', 'at', 'done', 'firsts', 'rate')
  local done = tonumber(redis.call('HGET', STATS, 'attempts:completed') or 0)
  local line, at, done_then, firsts, rate = tonumber(b[1] or 0), tonumber(b[2] or now), tonumber(b[3] or done), tonumber(b[4] or 0), tonumber(b[5] or 0)
  if is_first then firsts = firsts + 1 end
  line = math.max(line, now)
  if now - at >= (rate > 0 and COUNTED_MS or FIRST_COUNTED_MS) then
    local before = retries_a_second(rate)
    rate = (math.max(0, done - done_then) + firsts) * 1000 / (now - at)
    at, done_then, firsts = now, done, 0
    line = now + (line - now) * before / retries_a_second(rate) -- as many retries as were spent, at the new rate
  end
  line = line + 1000 / retries_a_second(rate)
  local over = line - now - SAVED_MS
  if over > MAX_POSTPONED_MS then
    line = now + SAVED_MS + MAX_POSTPONED_MS
    over = MAX_POSTPONED_MS * (1 + chance(id .. integer(now))) / 2
  end
  redis.call('HSET', RETRY_BUDGET, 'line', string.format('%.3f', line), 'at', integer(at), 'done', integer(done_then), 'firsts', integer(firsts), 'rate', string.format('%.3f', rate))
  redis.call('PEXPIRE', RETRY_BUDGET, BUDGET_KEPT_MS)
  return math.max(0, over)
end
