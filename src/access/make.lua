-- Adds a key, and keeps the namespace that it names. One that takes the place of another gives that an end in the same moment.
-- KEYS[1] base of the empty type
-- ARGV[1] the version this makes  [2] id  [3] its record  [4] at most so many keys
-- ARGV[5] id of the other, or ''  [6] its record as it was read  [7] as it is to be
-- ARGV[8] its namespace; '' for the default one  [9] at most so many namespaces  [10] at most so many keys of one
-- Returns 'made'; 'full'; 'namespace_full'; 'namespaces'; 'changed' when the other is not as it was read: nothing is done then

local id, other, namespace = ARGV[2], ARGV[5], ARGV[8]
if other ~= '' and redis.call('HGET', ACCESS, 'key:' .. other) ~= ARGV[6] then return 'changed' end
-- Within a name the quotes would be escaped.
local member = '"namespace":"' .. namespace .. '"'
local count, of_namespace = 0, 0
local fields = redis.call('HGETALL', ACCESS)
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 4) == 'key:' then
    count = count + 1
    if string.find(fields[i + 1], member, 1, true) then of_namespace = of_namespace + 1 end
  end
end
if count >= tonumber(ARGV[4]) then return 'full' end
if namespace ~= '' then
  if of_namespace >= tonumber(ARGV[10]) then return 'namespace_full' end
  if not redis.call('ZSCORE', NAMESPACES, namespace) and redis.call('ZCARD', NAMESPACES) >= tonumber(ARGV[9]) then return 'namespaces' end
  local time = redis.call('TIME')
  redis.call('ZADD', NAMESPACES, string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000)), namespace)
end
redis.call('HSET', ACCESS, 'version', ARGV[1], 'key:' .. id, ARGV[3])
if other ~= '' then redis.call('HSET', ACCESS, 'key:' .. other, ARGV[7]) end
publish(access_channel(), ARGV[1])
return 'made'
