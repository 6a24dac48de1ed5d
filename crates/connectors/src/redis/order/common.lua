-- What the scripts after it share.

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

-- A flat reply of names and values as a table.
local function named(flat)
  local table_of = {}
  for i = 1, #flat, 2 do
    table_of[flat[i]] = flat[i + 1]
  end
  return table_of
end
