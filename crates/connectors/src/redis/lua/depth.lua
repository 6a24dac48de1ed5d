-- Depth of the bus, atomically. KEYS: stream, stream of dead letters. ARGV: group.
-- Returns the number of unread, pending and dead entries, and the id of the oldest unfinished one ('' for none).
local stream, dead = KEYS[1], redis.call('XLEN', KEYS[2])
local length = redis.call('XLEN', stream)

local function first_from(from)
  local found = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)
  return found[1] and found[1][1] or ''
end

local group = group_of(stream, ARGV[1])
if not group then
  -- The group is created at the start of the stream, so every entry is unread.
  return { length, 0, dead, first_from('-') }
end

local last, unread = group['last-delivered-id'], group.lag
if not unread then
  -- The server reports no lag because entries were deleted one by one. The entries that were read and are not trimmed yet
  -- are few: they are counted instead of the unread ones.
  local read, from = 0, '-'
  repeat
    local page = redis.call('XRANGE', stream, from, last, 'COUNT', 100)
    read = read + #page
    from = page[1] and '(' .. page[#page][1]
  until #page < 100
  unread = length - read
end

local oldest = ''
if group.pending > 0 then
  oldest = redis.call('XPENDING', stream, ARGV[1])[2]
elseif unread > 0 then
  oldest = first_from('(' .. last)
end
return { unread, group.pending, dead, oldest }
