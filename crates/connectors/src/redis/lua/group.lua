-- Creates the group at the start of the stream, unless it exists. A script, because a server whose memory is full refuses
-- the command alone. KEYS: stream. ARGV: group. Returns the number of entries ever added to the stream before.
local added = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  added = named(redis.call('XINFO', 'STREAM', KEYS[1]))['entries-added']
end
if not group_of(KEYS[1], ARGV[1]) then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], 0, 'MKSTREAM')
end
return added
