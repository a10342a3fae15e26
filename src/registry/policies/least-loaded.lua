-- Policy: least loaded first, in flight ÷ max_concurrency; ties go to the agent that has waited longest.
-- A policy is this one function: a whole number below 2^50 for an agent with room, the lowest is taken first.
-- @param load  number  in_flight / max_concurrency, 0 ≤ load < 1
-- @param turn  number  microseconds of Redis time at which the agent was last leased or fell idle
local function policy_score(load, turn)
  return math.floor(load * 1024) * 2 ^ 40 + turn % 2 ^ 40
end
