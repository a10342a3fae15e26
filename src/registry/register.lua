-- Writes an agent, new or known, and puts it into its pools.
-- KEYS[1] base
-- ARGV[1] id  [2] instance_id or ''  [3] host  [4] port  [5] ttl ms  [6] kept for, ms  [7] its capabilities ('a b')  [8] status or ''
-- ARGV[9] max_concurrency  [10] a fresh salt  [11] ms for which the one before counts too, when it is to take its place now; or ''  [12…] name, value of further fields (name, type, version, capabilities, m:<key>)
-- Returns {1 when the agent is a new one, 0 when it was known; its salts}.
--- @include "health.lua"

local id, instance, host, port, ttl, keep, pools, status, max = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local salt = ARGV[10]
local now = now_ms()
forgive_absence(now)
local old = redis.call('HMGET', agent_key(id), 'generation', 'instance', 'host', 'port', 'seen', 'ttl', 'out', 'registered', 'turn', 'rest', 'trial', 'salt')
local known = old[1] ~= false
local alive = known and not is_dead(old[5], old[6], old[7], now)
local generation = known and tonumber(old[1]) or 1
local registered, turn, rest = integer(now), '0', '0'
if known then
  leave_pools(id) -- its capabilities may have changed
  registered, turn = old[8], old[9]
  if old[12] then salt = ARGV[11] == '' and old[12] or with_salt(old[12], salt, tonumber(ARGV[11]), now) end
  -- Another process, or in another place: what the one before was running is over. One that was only silent may be running it still.
  local another = old[3] ~= host or old[4] ~= port or (instance ~= '' and old[2] ~= instance)
  if another then deny_all_parked(id, now) end
  if another or not alive then
    generation = generation + 1
    ends_leases(id)
    -- What failed at the one before it is not held against the new one. A sick agent that has begun anew, and was not away for long, is
    -- tried at once, but one task at a time: it may be one that ends each time it is given work.
    if not alive or old[11] ~= 'sick' then forgets_sickness(id, old[11]) end
  elseif old[11] == 'sick' then
    rest = old[10]
  end
  -- metadata is replaced as a whole; a heartbeat merges
  for _, field in ipairs(redis.call('HKEYS', agent_key(id))) do
    if string.sub(field, 1, 2) == 'm:' then redis.call('HDEL', agent_key(id), field) end
  end
end
if instance == '' and known then instance = old[2] end
redis.call('HSET', agent_key(id), 'id', id, 'instance', instance, 'host', host, 'port', port, 'ttl', integer(ttl), 'pools', pools,
  'status', status ~= '' and status or 'healthy', 'max', max, 'generation', integer(generation), 'seen', integer(now),
  'registered', registered, 'turn', turn, 'rest', rest, 'out', '', 'salt', salt, unpack(ARGV, 12))
if redis.call('ZSCORE', QUEUES, queue_of('@' .. id)) then redis.call('HSET', agent_key(id), 'pins', '1') end
redis.call('PEXPIRE', agent_key(id), keep)
redis.call('PERSIST', leases_key(id)) -- unregistering lets it expire
redis.call('ZADD', AGENTS, 0, id)
redis.call('ZREM', WATCH, id)
look(id, now)
return { known and 0 or 1, salts_of(salt) }
