-- Policy: least loaded first, in flight ÷ max_concurrency; ties go to the agent that has waited longest.
-- A policy is this one function: a whole number below 2^51 for an agent with room, the lowest is taken first.
-- @param load  number  in_flight / max_concurrency, 0 ≤ load < 1
-- @param turn  number  counts up each time any agent of the type is leased
local function policy_score(load, turn)
  return math.floor(load * 1024) * 2 ^ 40 + turn % 2 ^ 40
end
