-- Looks once more whether something waits for an agent that has room, and tells a dispatcher.
-- KEYS[1] base   ARGV[1] agent
-- Returns nothing.
--- @include "../redis/any-memory.lua"
--- @include "slots.lua"

local agent = read_agent(ARGV[1])
if agent and score_of(agent, now_ms()) < FULL then offer(ARGV[1]) end
