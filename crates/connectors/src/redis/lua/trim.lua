-- Trims the entries that every group has finished. KEYS: stream. Returns the number of trimmed entries.
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
    -- Nothing is pending: trim everything before the last delivered entry. That entry stays; it costs nothing.
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
