-- Agents and their slots. Included by every script that leases, frees or looks at an agent.
--
-- A pool is a zset of the living agents of a capability. A score has two parts: its class in the high bits, the policy's order below.
--   class 0  healthy, with room      class 1  degraded, with room      class 1.5  suspected not to be there, with room      class 2  full
--   class 3  alive but not to be used now: unhealthy, draining, silent, resting (also because it is sick: sick.lua), refused
-- The score is computed anew from the agent's leases at each touch, so it cannot drift. ZSET scores are doubles: all stays below 2^53.
-- A lease is an entry of the zset leases:<agent>: `h.<token>` holds a slot until a job is found for it, `<ms>.<token>` is an attempt
-- begun at that ms of Redis time; the score is when it ends by itself. Whoever makes a lease says in `watch` when that is.
--- @include "policies/least-loaded.lua"
--- @include "../queues/heads.lua"

local HOLD_MS = 10000 -- a slot waits so long for its job; then it is free again
local DAY_MS = 86400000 -- no attempt may last longer (MAX_TASK_TIMEOUT_SECONDS): what is noted of one goes by then
local CLASS = 2 ^ 51
local FULL = 2 * CLASS
local UNUSABLE = 3 * CLASS

-- ms since the epoch; and microseconds, which order agents by how long they have waited (wraps every 12 days: one unfair turn).
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), (t[1] * 1000000 + t[2]) % 2 ^ 40
end

local function integer(n) return string.format('%d', n) end

-- Someone must look at the agent at `at` (ms), or sooner.
local function watch(id, at) redis.call('ZADD', WATCH, 'LT', integer(at), id) end

-- Tells the least busy dispatcher; one that nobody hears any more is forgotten, and the next one told. Returns who was, or nil.
local function tell_a_dispatcher(message)
  for _ = 1, 8 do
    local dispatcher = redis.call('ZRANGE', DISPATCHERS, 0, 0)[1]
    if not dispatcher then return nil end
    if publish(wake_channel(dispatcher), message) > 0 then return dispatcher end
    redis.call('ZREM', DISPATCHERS, dispatcher)
  end
end

-- Says that `queue` has work and room. One dispatcher is woken, not all: it takes what there is, and whoever frees a slot later serves
-- the rest. Told and not yet come (`reserve` is its coming), it is not told again at once: a burst wakes once.
-- `in_ms` (optional): not now but then.
local WAKE_AGAIN_MS = 50
local function wake(queue, in_ms)
  local now = now_ms()
  if not in_ms and now - tonumber(redis.call('HGET', WOKEN, queue) or 0) < WAKE_AGAIN_MS then return end
  local dispatcher = tell_a_dispatcher(scope .. '\t' .. queue .. (in_ms and '\t' .. integer(in_ms) or ''))
  if not dispatcher then return end
  redis.call('ZINCRBY', DISPATCHERS, 1, dispatcher)
  if not in_ms then redis.call('HSET', WOKEN, queue, integer(now)) end
end

-- What the agent's secret is derived from (signing.ts), as its field `salt` has it: a salt, and once it was changed the one before, the ms until
-- which that counts too, and the ms of the change. Returns those that count, the newest first, or ''.
local function salts_of(text)
  local new, old, until_ms = string.match(text or '', '^(%S+) (%S+) (%d+)')
  if not new then return text or '' end
  return tonumber(until_ms) > now_ms() and new .. ' ' .. old or new
end
-- The same field with a fresh salt. Changed a moment ago, it is not changed again: whoever asks has not heard the answer.
local CHANGED_AGAIN_MS = 60000
local function with_salt(text, fresh, overlap_ms, now)
  local new, old, until_ms, at = string.match(text, '^(%S+) (%S+) (%d+) (%d+)$')
  if new and tonumber(at) + CHANGED_AGAIN_MS > now then
    return table.concat({ new, old, integer(math.min(tonumber(until_ms), now + overlap_ms)), at }, ' ')
  end
  return table.concat({ fresh, new or text, integer(now + overlap_ms), integer(now) }, ' ')
end

-- What placing an agent needs to know of it; nil when it is gone. `queues`: those of its capabilities, and its own if a task was
-- ever pinned to it.
local function read_agent(id)
  local a = redis.call('HMGET', agent_key(id), 'pools', 'max', 'status', 'out', 'rest', 'turn', 'name', 'host', 'port', 'trial', 'pins', 'streak', 'salt')
  if not a[1] then return nil end
  local pools, queues = {}, {}
  for pool in string.gmatch(a[1], '%S+') do
    pools[#pools + 1] = pool
    queues[#queues + 1] = queue_of(pool)
  end
  if a[11] then queues[#queues + 1] = queue_of('@' .. id) end
  return { id = id, pools = pools, queues = queues, max = tonumber(a[2]), status = a[3], out = a[4], rest = tonumber(a[5]), turn = tonumber(a[6]),
    name = a[7], host = a[8], port = a[9], trial = a[10], streak = a[12], salt = a[13], in_flight = redis.call('ZCARD', leases_key(id)) }
end

-- Back from refusing connections, an agent gets one attempt at first, and the rest of its room when a second later that still stands:
-- were it not so, each beat of an agent that nobody can connect to would cost as many attempts as it has slots.
-- Its field `trial` is 0 until that attempt, then the ms at which it has passed. It is `sick` for an agent that gets one task at a time until
-- it has completed one.
local TRIAL_MS = 1000
-- Whether it is on trial now; and when that ends, if its attempt has begun.
local function on_trial(agent, now)
  if not agent.trial then return false end
  if agent.trial == 'sick' then return true end
  if agent.trial == '0' then return true, agent.in_flight > 0 and now + TRIAL_MS or nil end
  return now < tonumber(agent.trial), tonumber(agent.trial)
end
-- Writes down what has become of the trial.
local function note_trial(agent, now)
  local lasts, ends = on_trial(agent, now)
  if not lasts then redis.call('HDEL', agent_key(agent.id), 'trial')
  elseif ends then
    if agent.trial == '0' then
      agent.trial = integer(ends)
      redis.call('HSET', agent_key(agent.id), 'trial', agent.trial)
    end
    watch(agent.id, ends)
  end
end

-- Where an agent belongs. Writes nothing.
local function weigh(agent, now)
  local class, suspect = 0, agent.out == 'suspect' -- one task shows whether it is there
  local load = agent.in_flight / ((suspect or on_trial(agent, now)) and 1 or agent.max)
  if (agent.out ~= '' and not suspect) or (agent.status ~= 'healthy' and agent.status ~= 'degraded') or agent.rest > now then class = 3
  elseif load >= 1 then class = 2
  elseif suspect then class = 1.5
  elseif agent.status == 'degraded' then class = 1 end
  return class * CLASS + policy_score(math.min(load, 0.9999), agent.turn)
end
local function score_of(agent, now)
  if agent.trial then note_trial(agent, now) end
  return weigh(agent, now)
end

local function place(agent, score)
  local at = integer(score)
  for _, pool in ipairs(agent.pools) do redis.call('ZADD', pool_key(pool), at, agent.id) end
end

-- Puts an agent where it belongs in its pools; returns true when it has room.
local function rescore(id, now)
  local agent = read_agent(id)
  if not agent then return false end
  local score = score_of(agent, now)
  place(agent, score)
  return score < FULL
end

-- Takes the agent out of its pools altogether: it is dead or gone.
local function leave_pools(id)
  local pools = redis.call('HGET', agent_key(id), 'pools')
  if not pools then return end
  for pool in string.gmatch(pools, '%S+') do redis.call('ZREM', pool_key(pool), id) end
end

-- Leases a slot of an agent (as read) until `until_ms`, and sends it to the end of the line among its equals.
local function lease(agent, member, until_ms, now, turn)
  redis.call('ZADD', leases_key(agent.id), integer(until_ms), member)
  watch(agent.id, until_ms)
  -- Its turn is kept in its score; `finish` writes it down when the agent falls idle.
  agent.in_flight, agent.turn = agent.in_flight + 1, turn
  place(agent, score_of(agent, now))
end

-- The queue whose head goes first: by priority, ties by age (ids sort by time). Returns nil when nothing waits.
local function best_queue(queues)
  local best, best_rank, best_id
  local back = came_back(queues)
  for _, queue in ipairs(queues) do
    local rank, id = head(queue, back)
    if rank and (not best or rank < best_rank or (rank == best_rank and id < best_id)) then
      best, best_rank, best_id = queue, rank, id
    end
  end
  return best
end

-- The agent of a pool that is one agent: of tasks pinned to it. nil for others.
local function pinned_in(pool) return string.byte(pool) == 64 and string.sub(pool, 2) or nil end
-- Its score for such a task, and the agent as read; nil when it is not there, or dead.
local function pinned_score(id)
  local agent = read_agent(id)
  if agent and agent.out ~= 'dead' then return weigh(agent, now_ms()), agent end
end

-- The agent that is next in a pool and has room, or nil; and its score. Writes nothing.
local function next_agent(pool)
  local pinned = pinned_in(pool)
  if pinned then
    local score = pinned_score(pinned)
    if score and score < FULL then return pinned, score end
    return nil
  end
  local top = redis.call('ZRANGE', pool_key(pool), 0, 0, 'WITHSCORES')
  local score = tonumber(top[2])
  if score and score < FULL then return top[1], score end
end

local function pool_of(queue) return string.sub(queue, #agent_type + 2) end

-- What a dispatcher needs to know of a slot: who, where, the salts, and the job taken for it.
local function slot_reply(agent, member, queue, job)
  return { member, queue, agent.id, agent.name, agent.host, agent.port, salts_of(agent.salt), job }
end

-- A slot of the agent came free: tells one dispatcher, if something waits for it.
local function offer(id)
  local agent = read_agent(id)
  local queue = agent and best_queue(agent.queues)
  if queue then wake(queue) end
end

-- The agent came back, perhaps with many free slots: each of its queues where something waits is told of.
local function offer_all(id)
  local agent = read_agent(id)
  for _, queue in ipairs(agent and agent.queues or {}) do
    if waiting(queue) > 0 then wake(queue) end
  end
end
