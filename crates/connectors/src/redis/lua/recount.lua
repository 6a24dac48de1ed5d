-- Sets the delivery count of a pending entry, which stays with its consumer. KEYS: stream. ARGV: group, entry, count.
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], row[2], 0, ARGV[2], 'RETRYCOUNT', ARGV[3], 'JUSTID')
end
