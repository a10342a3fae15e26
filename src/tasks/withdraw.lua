-- Takes back a record whose job could not be added: its client was told no.
-- KEYS[1] base   ARGV[1] id
-- Returns 1 when it was still unconfirmed and is gone.
--- @include "record.lua"

local id = ARGV[1]
local t = redis.call('HMGET', task_key(id), 'unconfirmed', 'status', 'queue')
if t[1] ~= '1' or redis.call('EXISTS', bull_key(t[3], id)) == 1 then return 0 end
redis.call('ZREM', tasks_key(t[2]), id)
redis.call('ZREM', TIMERS, id)
redis.call('DEL', task_key(id))
return 1
