-- The unfinished entries of one chunk, ascending, one a line: "<entry> <consumer>". Shared by the scripts after it.

-- Redis' Lua unpacks some 8,000 values at most.
local SLICE = 1000

local function slices(count, call)
  for first = 1, count, SLICE do
    call(first, math.min(first + SLICE - 1, count))
  end
end

local function parts(id)
  local millis, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(millis), tonumber(sequence)
end

local function less(a, b)
  local a_millis, a_sequence = parts(a)
  local b_millis, b_sequence = parts(b)
  if a_millis ~= b_millis then
    return a_millis < b_millis
  end
  return a_sequence < b_sequence
end

local function parse(text)
  local list = {}
  for id, owner in string.gmatch(text, '(%S+) (%S+)') do
    list[#list + 1] = { id = id, owner = owner }
  end
  return list
end

local function show(list)
  local lines = {}
  for i, item in ipairs(list) do
    lines[i] = item.id .. ' ' .. item.owner
  end
  return table.concat(lines, '\n')
end

-- The texts of the lists of these chunks, by chunk; false for none.
local function load_lists(order, chunks)
  local texts = {}
  slices(#chunks, function(first, last)
    local found = redis.call('HMGET', order, unpack(chunks, first, last))
    for i, text in ipairs(found) do
      texts[chunks[first + i - 1]] = text
    end
  end)
  return texts
end

-- Writes lists back: pairs of chunk and text, and chunks that have none left.
local function save_lists(order, pairs_of, emptied)
  slices(#pairs_of, function(first, last)
    redis.call('HSET', order, unpack(pairs_of, first, last))
  end)
  slices(#emptied, function(first, last)
    redis.call('HDEL', order, unpack(emptied, first, last))
  end)
end

-- A flat reply of names and values as a table.
local function named(flat)
  local table_of = {}
  for i = 1, #flat, 2 do
    table_of[flat[i]] = flat[i + 1]
  end
  return table_of
end
