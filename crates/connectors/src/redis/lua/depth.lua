-- Depth of the bus, atomically. KEYS: stream, stream of dead letters, notes of the group. ARGV: group.
-- Returns the number of unread, pending and dead entries, the id of the oldest unfinished one ('' for none), and the number
-- of entries ever added.
local stream, dead = KEYS[1], redis.call('XLEN', KEYS[2])

local group = group_of(stream, ARGV[1])
if not group then
  -- The group is created at the start of the stream, so every entry is unread.
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
  return { redis.call('XLEN', stream), 0, dead, first[1] and first[1][1] or '', 0 }
end

local counted = count(stream, group, KEYS[3])
local oldest = counted.next or ''
if group.pending > 0 then
  oldest = redis.call('XPENDING', stream, ARGV[1])[2]
end
return { counted.unread, group.pending, dead, oldest, counted.added }
