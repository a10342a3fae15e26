-- Agents and their slots. Included by every script that leases, frees or looks at an agent.
--
-- A pool is a zset of the living agents of a capability. A score has two parts: its class in the high bits, the policy's order below.
--   class 0  healthy, with room      class 1  degraded, with room      class 2  full
--   class 3  alive but not to be used now: unhealthy, draining, silent, resting, refused
-- The score is computed anew from the agent's leases at each touch, so it cannot drift. ZSET scores are doubles: all stays below 2^53.
-- A lease is an entry of the zset leases:<agent>: `h.<token>` holds a slot until a job is found for it, `<ms>.<token>` is an attempt
-- begun at that ms of Redis time; the score is when it ends by itself.
--- @include "policies/least-loaded.lua"
--- @include "../queues/heads.lua"

local CLASS = 2 ^ 51
local FULL = 2 * CLASS

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function integer(n) return string.format('%.0f', n) end

-- Someone must look at the agent at `at` (ms), or sooner.
local function watch(id, at) redis.call('ZADD', WATCH, 'LT', integer(at), id) end

-- Tells the least busy dispatcher that `queue` has work and room. One is woken, not all: it takes what there is, and whoever frees
-- a slot later serves the rest. A dispatcher that nobody hears any more is forgotten and the next one told.
-- `in_ms` (optional): not now but then.
local function wake(queue, in_ms)
  for _ = 1, 8 do
    local dispatcher = redis.call('ZRANGE', DISPATCHERS, 0, 0)[1]
    if not dispatcher then return end
    local message = scope .. '\t' .. queue
    if in_ms then message = message .. '\t' .. integer(in_ms) end
    if redis.call('PUBLISH', wake_channel(dispatcher), message) > 0 then
      redis.call('ZINCRBY', DISPATCHERS, 1, dispatcher)
      return
    end
    redis.call('ZREM', DISPATCHERS, dispatcher)
  end
end

-- Puts the agent at its place in all of its pools, by its state and its leases; returns true when it has room.
local function rescore(id, now)
  local a = redis.call('HMGET', agent_key(id), 'pools', 'max', 'status', 'out', 'rest', 'turn')
  if not a[1] then return false end
  redis.call('ZREMRANGEBYSCORE', leases_key(id), '-inf', integer(now))
  local class = 0
  local max = tonumber(a[2])
  local load = redis.call('ZCARD', leases_key(id)) / max
  if a[4] ~= '' or (a[3] ~= 'healthy' and a[3] ~= 'degraded') or tonumber(a[5]) > now then class = 3
  elseif load >= 1 then class = 2
  elseif a[3] == 'degraded' then class = 1 end
  local score = integer(class * CLASS + policy_score(math.min(load, 0.9999), tonumber(a[6])))
  for pool in string.gmatch(a[1], '%S+') do redis.call('ZADD', pool_key(pool), score, id) end
  return class < 2
end

-- Takes the agent out of its pools altogether: it is dead or gone.
local function leave_pools(id)
  local pools = redis.call('HGET', agent_key(id), 'pools')
  if not pools then return end
  for pool in string.gmatch(pools, '%S+') do redis.call('ZREM', pool_key(pool), id) end
end

-- Leases a slot of the agent until `until_ms` and sends it to the end of the line among its equals.
local function lease(id, member, until_ms, now)
  redis.call('ZADD', leases_key(id), integer(until_ms), member)
  redis.call('HSET', agent_key(id), 'turn', redis.call('INCR', TURNS))
  watch(id, until_ms)
  rescore(id, now)
end

-- The agent's queue whose head goes first: by priority, ties by age (ids sort by time). `taken` counts, per queue,
-- jobs already spoken for in this call. Returns nil when nothing waits.
local function best_queue(pools, taken)
  local best, best_rank, best_id
  for pool in string.gmatch(pools, '%S+') do
    local queue = queue_of(pool)
    local rank, id = head(queue, taken and taken[queue] or 0)
    if rank and (not best or rank < best_rank or (rank == best_rank and id < best_id)) then
      best, best_rank, best_id = queue, rank, id
    end
  end
  return best
end

-- The agent that is next in a pool and has room, or nil.
local function next_agent(pool)
  local top = redis.call('ZRANGE', pool_key(pool), 0, 0, 'WITHSCORES')
  if top[1] and tonumber(top[2]) < FULL then return top[1] end
end

local function pool_of(queue) return string.sub(queue, #agent_type + 2) end

-- What a dispatcher needs to know of a slot: who, where, and whether the agent serves one capability only.
local function slot_reply(id, member, queue)
  local a = redis.call('HMGET', agent_key(id), 'name', 'host', 'port', 'pools')
  local _, spaces = string.gsub(a[4], ' ', '')
  return { member, queue, id, a[1], a[2], a[3], spaces <= 1 and 1 or 0 }
end

-- A slot of the agent came free (or the agent came back): tells one dispatcher, if something waits for it.
local function offer(id)
  local pools = redis.call('HGET', agent_key(id), 'pools')
  if not pools then return end
  local queue = best_queue(pools)
  if queue then wake(queue) end
end
