-- Creates the group at the start of the stream, unless it exists. A script, because a server whose memory is full refuses
-- the command alone. KEYS: stream, notes of the group. ARGV: group, a random name for a new life.
-- Returns the number of entries ever added to the stream before.
local stream, name, life = KEYS[1], ARGV[1], ARGV[2]
local added, length = 0, 0
if redis.call('EXISTS', stream) == 1 then
  local info = named(redis.call('XINFO', 'STREAM', stream))
  added, length = info['entries-added'], info.length
end
if not group_of(stream, name) then
  redis.call('XGROUP', 'CREATE', stream, name, 0, 'MKSTREAM')
  begin_life(stream, name, nil, life)
  local deleted = named(redis.call('XINFO', 'STREAM', stream))['max-deleted-entry-id']
  note(KEYS[2], { life = life, last = '0-0', deleted = deleted }, added - length)
end
return added
