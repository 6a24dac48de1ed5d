-- Dead letters in ascending order of id. KEYS: stream of dead letters. ARGV: the first id, maximum number, maximum bytes
-- (exceeded by at most one letter), and the bytes from which on a letter is abridged: of each of its long values only the
-- beginning is returned.
-- Returns entries as XRANGE does. Fewer than the maximum number do not mean the end; none means it.
local from, left, room, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local page = {}
while left > 0 and room > 0 do
  local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  if not found then
    break
  end
  local bytes = size(found[2])
  if bytes > longest then
    bytes = 0
    for i, part in ipairs(found[2]) do
      if #part > 4096 then
        found[2][i] = string.sub(part, 1, 1024)
      end
      bytes = bytes + #found[2][i]
    end
  end
  page[#page + 1] = found
  from, left, room = '(' .. found[1], left - 1, room - bytes
end
return page
