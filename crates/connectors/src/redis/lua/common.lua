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

-- Whether the id is 0-0, which stands for no entry.
local function is_zero(id)
  return not id or id == '0-0'
end

-- The life of the group: part of the name of a consumer that reads nothing. It vanishes with the group and with the stream.
local function life_of(stream, name)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, name)) do
    local life = string.match(named(flat).name, '^epoch:(.+)$')
    if life then
      return life
    end
  end
end

local function begin_life(stream, name, old, new)
  if old then
    redis.call('XGROUP', 'DELCONSUMER', stream, name, 'epoch:' .. old)
  end
  redis.call('XGROUP', 'CREATECONSUMER', stream, name, 'epoch:' .. new)
end

-- The id of the first entry after `last`; nil if there is none.
local function next_after(stream, last)
  local found = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
  return found[1] and found[1][1]
end

-- The counts of the stream, and how many of its entries the group has not read. `unread` is exact if `exact` is true, which
-- costs no more than one entry; otherwise it counts entries that others deleted one by one as well.
-- `notes` is a hash with what the group had read when a script last looked: its life, the number of entries ever read
-- (`read`), the last one (`last`), and the greatest deletion that was reported (`deleted`).
local function count(stream, group, notes)
  local info = named(redis.call('XINFO', 'STREAM', stream))
  local counted = {
    added = info['entries-added'],
    last = group['last-delivered-id'],
    deleted = info['max-deleted-entry-id'],
    life = life_of(stream, group.name),
    noted = named(redis.call('HGETALL', notes)),
    exact = true,
  }
  counted.next = next_after(stream, counted.last)
  local first = info['recorded-first-entry-id']
  if not counted.next then
    counted.unread = 0
  elseif not is_zero(first) and less(counted.last, first) then
    counted.unread = info.length
  else
    counted.exact = false
    local noted = counted.noted
    local known = noted.life and noted.life == counted.life and noted.last == counted.last
    counted.unread = math.max(1, known and counted.added - tonumber(noted.read) or group.lag or info.length)
  end
  return counted
end

local function note(notes, counted, read)
  redis.call('HSET', notes, 'life', counted.life, 'read', read, 'last', counted.last, 'deleted', counted.deleted)
end

-- Looks for entries that other clients removed before the group read them. If there are any, the group begins a new life
-- called `new`. Returns the counts, with the number of lost entries in `lost` (0 if it is not known yet: a later call
-- counts them) and in `total` the number since the notes began.
local function survey(stream, group, notes, new)
  local counted = count(stream, group, notes)
  local noted, lost, found = counted.noted, 0, false
  local known = noted.life and noted.life == counted.life
  local read = counted.added - counted.unread
  if known then
    if noted.last ~= counted.last then
      -- Another client read for the group, or moved it: it is unknown which entries were skipped.
      found = true
    elseif counted.exact then
      lost = math.max(0, counted.added - tonumber(noted.read) - counted.unread)
      found = lost > 0
    else
      read = tonumber(noted.read)
    end
    -- Deletions one by one. A trimming does not change this id.
    if not is_zero(counted.deleted) and less(counted.last, counted.deleted) and noted.deleted ~= counted.deleted then
      found = true
    end
  end
  if found or not counted.life then
    begin_life(stream, group.name, counted.life, new)
    counted.life = new
  end
  if found or not known or tonumber(noted.read) ~= read then
    note(notes, counted, read)
  end
  if lost > 0 then
    redis.call('HINCRBY', notes, 'lost', lost)
  end
  counted.found, counted.lost, counted.read = found, lost, read
  counted.total = tonumber(redis.call('HGET', notes, 'lost') or 0)
  return counted
end
