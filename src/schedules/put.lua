-- Makes a schedule, or changes one.
-- KEYS[1] base   ARGV[1] id  [2] timing  [3] task  [4] catch_up, ms  [5] paused: 1, 0, or '' for as it is  [6] the first run from now on is due, or ''
-- Returns {1 when it is new, 1 when its runs are due at other times than before}
--- @include "schedule.lua"

local id = ARGV[1]
local key = schedule_key(id)
local old = redis.call('HMGET', key, 'timing', 'task', 'catch_up', 'paused', 'next')
local paused = ARGV[5] ~= '' and ARGV[5] or old[4] or '0'
-- As it was: what is due next stays so, however often the same is put.
local keeps_time = old[1] == ARGV[2] and old[4] == paused
if keeps_time and old[2] == ARGV[3] and old[3] == ARGV[4] then return { 0, 0 } end

local now = integer(now_ms())
local next_due = keeps_time and old[5] or paused == '1' and '' or ARGV[6]
redis.call('HSET', key, 'timing', ARGV[2], 'task', ARGV[3], 'catch_up', ARGV[4], 'paused', paused, 'next', next_due, 'updated', now)
redis.call('HSETNX', key, 'created', now)
redis.call('HINCRBY', key, 'rev', 1)
if redis.call('HEXISTS', key, 'claim') == 0 then look_at_schedule(id, next_due) end
return { old[1] and 0 or 1, keeps_time and 0 or 1 }
