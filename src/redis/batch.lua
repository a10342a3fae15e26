-- An error of Redis's begins with the word that says whose it is (`OOM`, `NOREPLICAS`), which its pcall may hand over as bare text; a fault in
-- the script gets one.
local function error_reply(thrown)
  local text = type(thrown) == 'table' and thrown.err or tostring(thrown)
  return { err = string.find(text, '^%u+ ') and text or 'ERR ' .. text }
end

-- Runs a script's items one behind the other, `size` arguments each, and returns a list with a reply for each. Included by scripts that
-- batch.ts calls. An item that fails (a record somebody has tampered with, a key of another kind) gets its error; the others are done.
-- `at_end`: what is to be written once for all of them.
local function for_each(size, item, at_end)
  local replies = {}
  for i = 1, #ARGV, size do
    local ok, reply = pcall(item, unpack(ARGV, i, i + size - 1))
    if not ok then reply = error_reply(reply) end
    replies[#replies + 1] = reply
  end
  at_end()
  return replies
end

-- The same, where items differ in length: each begins with how many arguments follow, and is told the first and the last of them.
local function for_each_of_any_length(item)
  local replies, i = {}, 1
  while i <= #ARGV do
    local last = i + tonumber(ARGV[i])
    local ok, reply = pcall(item, i + 1, last)
    if not ok then reply = error_reply(reply) end
    replies[#replies + 1] = reply
    i = last + 1
  end
  return replies
end
