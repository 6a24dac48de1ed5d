-- Forgets what every group has finished. KEYS: stream. Answers how many entries went.
local stream = KEYS[1]
if redis.call('EXISTS', stream) == 0 then
  return 0
end

local bound = false
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local other = named(flat)
  local open = redis.call('XPENDING', stream, other.name)
  local first = open[2]
  if open[1] == 0 then
    -- Nothing pending: everything up to the last one delivered. That one stays: it costs nothing.
    first = other['last-delivered-id']
  end
  if not bound or less(first, bound) then
    bound = first
  end
end
if not bound then
  return 0
end
return redis.call('XTRIM', stream, 'MINID', bound)
