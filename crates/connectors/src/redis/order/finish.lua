-- Acknowledges entries and takes them off the lists of their chunks.
-- KEYS: stream, order. ARGV: group, then entry and chunk in turn; the chunk is empty where it is not known. Answers how
-- many were pending.
local stream, order, group = KEYS[1], KEYS[2], ARGV[1]

local ids, chunks, gone = {}, {}, {}
for i = 2, #ARGV, 2 do
  local id, chunk = ARGV[i], ARGV[i + 1]
  ids[#ids + 1] = id
  if chunk ~= '' then
    if not gone[chunk] then
      gone[chunk] = {}
      chunks[#chunks + 1] = chunk
    end
    gone[chunk][id] = true
  end
end

local finished = 0
slices(#ids, function(first, last)
  finished = finished + redis.call('XACK', stream, group, unpack(ids, first, last))
end)

local texts = load_lists(order, chunks)
local changed, emptied = {}, {}
for _, chunk in ipairs(chunks) do
  if texts[chunk] then
    local left = {}
    for _, item in ipairs(parse(texts[chunk])) do
      if not gone[chunk][item.id] then
        left[#left + 1] = item
      end
    end
    if #left == 0 then
      emptied[#emptied + 1] = chunk
    else
      changed[#changed + 1] = chunk
      changed[#changed + 1] = show(left)
    end
  end
end
save_lists(order, changed, emptied)
return finished
