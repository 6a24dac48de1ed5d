-- The life of the stream and its group, stored as the name of a consumer that reads nothing: it vanishes with the group,
-- however that is removed, and with the stream. KEYS: stream. ARGV: group, a random name for a new life.
-- Returns the name of the life.
local stream, group = KEYS[1], ARGV[1]
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local epoch = string.match(named(flat).name, '^epoch:(.+)$')
  if epoch then
    return epoch
  end
end
redis.call('XGROUP', 'CREATECONSUMER', stream, group, 'epoch:' .. ARGV[2])
return ARGV[2]
