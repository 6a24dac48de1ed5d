-- Says for each group of entries whether one of them is pending at another consumer.
-- KEYS: stream. ARGV: group, consumer, then for each group how many entries, and these. Answers 1 or 0 for each.
local stream, group, me = KEYS[1], ARGV[1], ARGV[2]
local answers, at = {}, 3
while at <= #ARGV do
  local count, found = tonumber(ARGV[at]), 0
  for i = at + 1, at + count do
    local open = redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1)
    if open[1] and open[1][2] ~= me then
      found = 1
      break
    end
  end
  answers[#answers + 1] = found
  at = at + count + 1
end
return answers
