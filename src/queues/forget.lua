-- Forgets a queue without work for an hour, and what BullMQ notes of it. Its finished jobs are taken away before, by BullMQ. Whoever adds a
-- job names the queue first (tasks/submit.lua), so a queue that is not named lately and has no job now gets none in this moment. One that
-- another dispatcher has forgotten just now is done again: taking its jobs away has made a note once more.
-- KEYS[1] base   ARGV[1] queue  [2…] its keys, as BullMQ names them
-- Returns 1 when it is forgotten
--- @include "../redis/any-memory.lua"
--- @include "heads.lua"

local HOUR = 3600 -- in seconds
local queue = ARGV[1]
local seen = redis.call('ZSCORE', QUEUES, queue)
if seen and redis.call('TIME')[1] - tonumber(seen) / 1000 < HOUR then return 0 end
if waiting(queue) + active(queue) + delayed(queue) + finished(queue) > 0 then return 0 end
redis.call('ZREM', QUEUES, queue)
redis.call('HDEL', WOKEN, queue)
redis.call('DEL', unpack(ARGV, 2))
return 1
