-- Says which keys there are, to an API process that asks once a second; and notes which it has seen used.
-- KEYS[1] base of the empty type
-- ARGV[1] the version it knows, or ''  [2] what agents' tokens are made with, should there be nothing yet  [3…] ids of keys that were used
-- Returns {now, version} when nothing has changed, else {now, version, the whole hash}

local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
-- The store may take no writes now (it is full, or a replica): who may come in must not depend on that.
redis.pcall('HSETNX', ACCESS, 'token_secret', ARGV[2])
for i = 3, #ARGV do
  if redis.call('HEXISTS', ACCESS, 'key:' .. ARGV[i]) == 1 then redis.pcall('HSET', ACCESS, 'used:' .. ARGV[i], now) end
end
local version = redis.call('HGET', ACCESS, 'version') or 'none'
if version == ARGV[1] then return { now, version } end
return { now, version, redis.call('HGETALL', ACCESS) }
