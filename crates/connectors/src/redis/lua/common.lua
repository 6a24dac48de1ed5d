#!lua flags=allow-oom
-- Functions that the other scripts share. The scripts also run when the server's memory is full (allow-oom), because reading
-- and finishing entries is what frees memory.

-- An entry id as text of fixed width, so that text order is id order.
local function sortable(id)
  local millis, sequence = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #millis) .. millis .. string.rep('0', 20 - #sequence) .. sequence
end

local function less(a, b)
  return sortable(a) < sortable(b)
end

-- A flat reply of names and values as a table.
local function named(flat)
  local table_of = {}
  for i = 1, #flat, 2 do
    table_of[flat[i]] = flat[i + 1]
  end
  return table_of
end

-- The bytes of a list of texts.
local function size(texts)
  local bytes = 0
  for _, text in ipairs(texts) do
    bytes = bytes + #text
  end
  return bytes
end

local function group_of(stream, name)
  if redis.call('EXISTS', stream) == 0 then
    return nil
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = named(flat)
    if group.name == name then
      return group
    end
  end
end
