-- Takes back a record whose job could not be added: its client was told no. What it was to retry may be retried again.
-- KEYS[1] base   ARGV[1] id
-- Returns 1 when it had no job that can go, and is gone.
--- @include "../redis/any-memory.lua"
--- @include "record.lua"

local id = ARGV[1]
local t = redis.call('HMGET', task_key(id), 'status', 'spec')
if (t[1] ~= 'queued' and t[1] ~= 'pending') or has_job(queue_in(t[2]), id) then return 0 end
local old = redis.call('HGET', task_key(id), 'retry_of')
if old and redis.call('HGET', task_key(old), 'retried_as') == id then redis.call('HDEL', task_key(old), 'retried_as') end
redis.call('ZREM', tasks_key(t[1]), id)
redis.call('ZREM', TIMERS, id)
redis.call('DEL', task_key(id))
tell(id, 'withdrawn', '', '', '', '')
write_lists()
return 1
