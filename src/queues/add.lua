-- Puts jobs that may go now at the ends of their lines by priority, many in one call: what BullMQ's own add does one by one, at several times the
-- cost. It leaves what that leaves (test/batch.test.ts holds the two against each other), but for the stream of events and the count of all
-- jobs ever, which nobody here reads.
-- KEYS[1] base
-- ARGV[1] when they are added, ms; then for each job: queue; id; name; priority as BullMQ counts it; options, as JSON
-- Returns how many were not there already
--- @include "heads.lua"

local lines, added = {}, 0
for i = 2, #ARGV, 5 do
  local queue, id, name, priority, opts = unpack(ARGV, i, i + 4)
  local key = bull_key(queue, id)
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'name', name, 'data', '{}', 'opts', opts, 'timestamp', ARGV[1], 'delay', '0', 'priority', priority)
    local line = lines[queue] or {}
    lines[queue] = line
    line[#line + 1] = priority
    line[#line + 1] = id
    added = added + 1
  end
end
for queue, line in pairs(lines) do
  -- The place in line: the priority above 32 bits that count up. In place of each priority its job's score.
  local count = #line / 2
  local last = redis.call('INCRBY', bull_key(queue, 'pc'), count)
  for i = 1, count do line[2 * i - 1] = string.format('%d', tonumber(line[2 * i - 1]) * 4294967296 + (last - count + i) % 4294967296) end
  redis.call('ZADD', bull_key(queue, 'prioritized'), unpack(line))
  redis.call('ZADD', bull_key(queue, 'marker'), 0, '0')
end
return added
