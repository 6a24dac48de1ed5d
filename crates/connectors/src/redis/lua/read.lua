-- Returns entries in stream order: first the pending entries of other consumers, then new ones.
-- KEYS: stream. ARGV: group, consumer, maximum number of entries, maximum bytes of fields (exceeded by at most one claimed
-- entry or by the last step of new ones), and the entry up to which a claim counts as a delivery ('' for none).
-- Returns the entries, the number of claimed ones, their delivery counts, the ids of pending entries that are no longer in
-- the stream, and the last entry that was ever delivered to the group.
local stream, group, me = KEYS[1], ARGV[1], ARGV[2]
local room, max_bytes, count_to = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local pending = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = named(flat)
  if consumer.pending > 0 and consumer.name ~= me then
    for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', room, consumer.name)) do
      pending[#pending + 1] = row
    end
  elseif consumer.name ~= me and not string.find(consumer.name, '^epoch:') then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
  end
end
table.sort(pending, function(a, b)
  return less(a[1], b[1])
end)

local entries, deliveries, gone, bytes = {}, {}, {}, 0

local function add(entry)
  entries[#entries + 1] = entry
  room = room - 1
  for _, part in ipairs(entry[2]) do
    bytes = bytes + #part
  end
end

for _, row in ipairs(pending) do
  if room == 0 or bytes >= max_bytes then
    break
  end
  local id, count = row[1], row[4]
  local found = redis.call('XRANGE', stream, id, id)
  if found[1] then
    if count_to ~= '' and not less(count_to, id) then
      count = count + 1
    end
    redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count, 'JUSTID')
    deliveries[#deliveries + 1] = count
    add(found[1])
  else
    redis.call('XACK', stream, group, id)
    gone[#gone + 1] = id
  end
end

-- The first step is small, so that huge entries are noticed before many are read.
local step = 16
while room > 0 and bytes < max_bytes do
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', math.min(room, step), 'STREAMS', stream, '>')
  if not read then
    break
  end
  for _, entry in ipairs(read[1][2]) do
    add(entry)
  end
  step = step * 16
end

return { entries, #deliveries, deliveries, gone, group_of(stream, group)['last-delivered-id'] }
