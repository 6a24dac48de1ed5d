-- Puts entries that this consumer has read into the lists of their chunks, and says which may be handed out.
-- KEYS: stream, order, seen, own alive key. ARGV: group, consumer, highest entry ever read, then entry and chunk in turn,
-- ascending; the chunk is empty where the entry has none. Answers 1 (hand out) or 0 (wait) for each entry, or nil where
-- this consumer has been taken for dead.
local stream, order, seen, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, me, highest = ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', alive) == 0 then
  return false
end

-- The lowest entry that another has read and not yet registered: what comes after it cannot be decided.
local limit = false
local last = ARGV[#ARGV - 1]
if #ARGV > 3 then
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = named(flat)
    if consumer.name ~= me and consumer.pending > 0 then
      local upto = redis.call('HGET', seen, consumer.name)
      if not upto or upto == 'left' then
        upto = '0-0'
      end
      local open = redis.call('XPENDING', stream, group, '(' .. upto, last, 1, consumer.name)
      if open[1] and (not limit or less(open[1][1], limit)) then
        limit = open[1][1]
      end
    end
  end
end

local answers, chunks, mine = {}, {}, {}
for i = 4, #ARGV, 2 do
  local id, chunk = ARGV[i], ARGV[i + 1]
  local place = (i - 2) / 2
  if chunk == '' then
    answers[place] = 1
  else
    answers[place] = 0
    if not limit or less(id, limit) then
      if not mine[chunk] then
        mine[chunk] = {}
        chunks[#chunks + 1] = chunk
      end
      table.insert(mine[chunk], { id = id, place = place })
    end
  end
end

-- Puts an entry at its place, or makes it mine where it stands there as another's.
local function insert(list, id)
  local at = #list
  while at > 0 and less(id, list[at].id) do
    at = at - 1
  end
  if at > 0 and list[at].id == id then
    list[at].owner = me
  else
    table.insert(list, at + 1, { id = id, owner = me })
  end
end

-- Mine may be handed out as long as no earlier one of the chunk is another's. Only the first of those is looked up: it may
-- have been finished by somebody who did not know of its list, or have changed hands.
local function decide(list, places)
  local i = 1
  while i <= #list do
    local item = list[i]
    if item.owner == me then
      if places[item.id] then
        answers[places[item.id]] = 1
      end
      i = i + 1
    else
      local open = redis.call('XPENDING', stream, group, item.id, item.id, 1)
      if not open[1] then
        table.remove(list, i)
      elseif open[1][2] == me then
        item.owner = me
      else
        item.owner = open[1][2]
        return
      end
    end
  end
end

local texts = load_lists(order, chunks)
local changed = {}
for _, chunk in ipairs(chunks) do
  local entries, text = mine[chunk], texts[chunk]
  local new
  if not text and #entries == 1 then
    new = entries[1].id .. ' ' .. me
    answers[entries[1].place] = 1
  else
    local list, places = parse(text or ''), {}
    for _, entry in ipairs(entries) do
      insert(list, entry.id)
      places[entry.id] = entry.place
    end
    decide(list, places)
    new = show(list)
  end
  if new ~= text then
    changed[#changed + 1] = chunk
    changed[#changed + 1] = new
  end
end
save_lists(order, changed, {})
redis.call('HSET', seen, me, limit or highest)
return answers
