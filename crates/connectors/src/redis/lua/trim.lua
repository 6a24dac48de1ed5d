-- Trims the entries that every group has finished. KEYS: stream, notes of the other groups. ARGV: own group, the
-- milliseconds after which a group without progress is idle, and 1 if an idle group does not hold the trimming up.
-- Returns the number of trimmed entries, and for each idle group that holds back more than the own one: its name and the
-- milliseconds since its last progress.
local stream, notes, own, limit, pass = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
if redis.call('EXISTS', stream) == 0 then
  return { 0, {} }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The first entry that the group has not finished, and what changes with its progress.
local function standing(group)
  local open = redis.call('XPENDING', stream, group.name)
  -- Nothing is pending: everything before the last delivered entry. That entry stays; it costs nothing.
  local first = open[1] == 0 and group['last-delivered-id'] or open[2]
  return first, group['last-delivered-id'] .. '/' .. open[1] .. '/' .. first
end

-- The milliseconds since the group last made progress.
local function idle_of(name, mark)
  local noted = redis.call('HGET', notes, name)
  local before, since = string.match(noted or '', '^(%S+) (%d+)$')
  if before == mark then
    return now - tonumber(since)
  end
  redis.call('HSET', notes, name, mark .. ' ' .. string.format('%.0f', now))
  return 0
end

local bound, others, there = nil, {}, {}
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = named(flat)
  local first, mark = standing(group)
  if group.name == own then
    bound = first
  else
    there[group.name] = true
    others[#others + 1] = { name = group.name, first = first, idle = idle_of(group.name, mark) }
  end
end
for _, name in ipairs(redis.call('HKEYS', notes)) do
  if not there[name] then
    redis.call('HDEL', notes, name)
  end
end

local idle, lowest = {}, bound
for _, other in ipairs(others) do
  local behind = not bound or less(other.first, bound)
  local is_idle = other.idle >= limit
  if behind and is_idle then
    idle[#idle + 1] = { other.name, other.idle }
  end
  if behind and not (is_idle and pass) and (not lowest or less(other.first, lowest)) then
    lowest = other.first
  end
end
if not lowest then
  return { 0, idle }
end
return { redis.call('XTRIM', stream, 'MINID', lowest), idle }
