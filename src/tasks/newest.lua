-- The newest tasks of an agent type that stand in some of its lists. Writes nothing.
-- KEYS[1] base   ARGV[1] at most so many  [2] only those before this id, or ''  [3…] the lists: statuses, where those at an agent are queued
-- Returns their ids, the newest first

local most, from, ids = tonumber(ARGV[1]), ARGV[2] == '' and '+' or '(' .. ARGV[2], {}
for i = 3, #ARGV do
  for _, id in ipairs(redis.call('ZREVRANGEBYLEX', tasks_key(ARGV[i]), from, '-', 'LIMIT', 0, most)) do ids[#ids + 1] = id end
end
table.sort(ids, function(a, b) return a > b end)
return { unpack(ids, 1, math.min(#ids, most)) }
