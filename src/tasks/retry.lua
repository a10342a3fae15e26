-- Notes that an ended task is tried again as a new one; only the first caller's id is taken.
-- KEYS[1] base   ARGV[1] id  [2] id of the new task
-- Returns nil when unknown, {'ok', new id}, {'again', id of the task that took it, ms since} or {'not_ended', status}
--- @include "record.lua"

local now = now_ms()
local t = redis.call('HMGET', task_key(ARGV[1]), 'status', 'retried_as', 'retried_at')
if not t[1] then return nil end
if not ENDS[t[1]] then return { 'not_ended', t[1] } end
if t[2] then return { 'again', t[2], integer(now - tonumber(t[3])) } end
redis.call('HSET', task_key(ARGV[1]), 'retried_as', ARGV[2], 'retried_at', integer(now))
return { 'ok', ARGV[2] }
