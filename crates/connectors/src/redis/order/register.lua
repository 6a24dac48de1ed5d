-- Tells the others what this consumer has read, and asks what they have.
-- KEYS: stream, seen, own alive key, own register. ARGV: group, consumer, what registers begin with, the highest entry ever
-- read, the highest one whose turn is asked for (empty for none), then number and text of a new page of the register, if
-- there is one. Answers the lowest entry that another has read and not registered (empty for none) and the pages of the
-- others; nil where this consumer has been taken for dead.
local stream, seen, alive, own = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, me, registers, highest, last = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('EXISTS', alive) == 0 then
  return false
end

local limit, pages = '', {}
if last ~= '' then
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = named(flat)
    if consumer.name ~= me and consumer.pending > 0 then
      local upto = redis.call('HGET', seen, consumer.name)
      if not upto or upto == 'left' then
        upto = '0-0'
      end
      local open = redis.call('XPENDING', stream, group, '(' .. upto, last, 1, consumer.name)
      if open[1] and (limit == '' or less(open[1][1], limit)) then
        limit = open[1][1]
      end
      for _, page in ipairs(redis.call('HVALS', registers .. consumer.name)) do
        pages[#pages + 1] = page
      end
    end
  end
end

if ARGV[6] then
  redis.call('HSET', own, ARGV[6], ARGV[7])
end
redis.call('HSET', seen, me, highest)
return { limit, pages }
