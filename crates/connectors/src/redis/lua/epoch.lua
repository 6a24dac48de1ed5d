-- The life of the stream and its group. It changes when the stream may have lost entries of the group: the group was made
-- again, or other clients removed unread entries. KEYS: stream, notes of the group. ARGV: group, a random name for a new life.
-- Returns the name of the life, whether a loss was found now, the number of entries lost now and in total, and the number of
-- entries ever added. Fails with NOGROUP if there is no such group.
local group = group_of(KEYS[1], ARGV[1])
if not group then
  return redis.error_reply('-NOGROUP no such group')
end
local counted = survey(KEYS[1], group, KEYS[2], ARGV[2])
return { counted.life, counted.found and 1 or 0, counted.lost, counted.total, counted.added }
