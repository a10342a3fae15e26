-- Adds a key. One that takes the place of another gives that an end in the same moment.
-- KEYS[1] base of the empty type
-- ARGV[1] the version this makes  [2] id  [3] its record  [4] at most so many keys
-- ARGV[5] id of the other, or ''  [6] its record as it was read  [7] as it is to be
-- Returns 'made'; 'full'; 'changed' when the other is not as it was read: nothing is done then

local id, other = ARGV[2], ARGV[5]
if other ~= '' and redis.call('HGET', ACCESS, 'key:' .. other) ~= ARGV[6] then return 'changed' end
local count = 0
for _, field in ipairs(redis.call('HKEYS', ACCESS)) do
  if string.sub(field, 1, 4) == 'key:' then count = count + 1 end
end
if count >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', ACCESS, 'version', ARGV[1], 'key:' .. id, ARGV[3])
if other ~= '' then redis.call('HSET', ACCESS, 'key:' .. other, ARGV[7]) end
redis.call('PUBLISH', access_channel(), ARGV[1])
return 'made'
