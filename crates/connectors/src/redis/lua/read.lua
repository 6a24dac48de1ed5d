-- Returns entries in stream order: first the pending entries of other consumers, then new ones.
-- KEYS: stream, stream of dead letters, notes of the group. ARGV: group, consumer, maximum number of entries, maximum bytes
-- of fields (exceeded by at most one entry), the entry up to which a claim counts as a delivery ('' for none), the maximum
-- bytes of one entry, a random name for a new life, and names and values of the reasons in the dead letter of a longer one;
-- of them `error` gets the number of bytes.
-- Returns the entries, the number of claimed ones, their delivery counts, the ids of pending entries that are no longer in
-- the stream, the last entry that was ever delivered to the group, ids and bytes of the entries that were too long, whether
-- more entries were read than returned (these are pending, and the next read claims them), of entries that other clients
-- removed whether a loss was found now and the numbers lost unread now and in total, and the server's time (seconds,
-- microseconds).
local stream, group, me = KEYS[1], ARGV[1], ARGV[2]
local room, max_bytes, count_to, entry_max = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local notes, new_life = KEYS[3], ARGV[7]
local found_group = group_of(stream, group)
if not found_group then
  return redis.error_reply('-NOGROUP no such group')
end
local counted = survey(stream, found_group, notes, new_life)

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

local entries, deliveries, gone, long, bytes, more = {}, {}, {}, {}, 0, 0

local function add(entry, length)
  entries[#entries + 1] = entry
  room = room - 1
  bytes = bytes + length
end

-- Copies an entry that is too long into the dead letters and finishes it. A call takes a bounded number of arguments, so of
-- an entry with thousands of fields the first ones are kept.
local function dead_letter(entry, length)
  local letter = { unpack(entry[2], 1, math.min(#entry[2], 4000)) }
  for i = 8, #ARGV, 2 do
    letter[#letter + 1] = ARGV[i]
    letter[#letter + 1] = ARGV[i] == 'error' and length .. ARGV[i + 1] or ARGV[i + 1]
  end
  letter[#letter + 1] = 'stream_id'
  letter[#letter + 1] = entry[1]
  redis.call('XADD', KEYS[2], '*', unpack(letter))
  redis.call('XACK', stream, group, entry[1])
  long[#long + 1] = { entry[1], length }
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
    local length = size(found[1][2])
    if length > entry_max then
      dead_letter(found[1], length)
    else
      redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count, 'JUSTID')
      deliveries[#deliveries + 1] = count
      add(found[1], length)
    end
  else
    redis.call('XACK', stream, group, id)
    gone[#gone + 1] = id
  end
end

-- The first step is small, and each next one expects entries of the average length so far, so that huge entries are noticed
-- before many are loaded.
local step, read_bytes, read_count = 4, 0, 0
while room > 0 and bytes < max_bytes and more == 0 do
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', math.min(room, step), 'STREAMS', stream, '>')
  if not read then
    break
  end
  for _, entry in ipairs(read[1][2]) do
    local length = size(entry[2])
    read_bytes, read_count = read_bytes + length, read_count + 1
    if length > entry_max then
      dead_letter(entry, length)
    elseif bytes < max_bytes then
      add(entry, length)
    else
      more = 1
    end
    counted.last = entry[1]
  end
  local average = math.max(1, read_bytes / read_count)
  step = math.max(1, math.min(step * 4, 64, math.floor((max_bytes - bytes) / average)))
end

if #gone > 0 then
  -- What captured them captures them again, and the log replays what it has of them.
  begin_life(stream, group, counted.life, new_life .. '-gone')
  counted.life, counted.found = new_life .. '-gone', true
  counted.total = redis.call('HINCRBY', notes, 'lost', #gone)
end
if read_count > 0 or #gone > 0 then
  note(notes, counted, counted.read + read_count)
end

local found, time = counted.found and 1 or 0, redis.call('TIME')
return { entries, #deliveries, deliveries, gone, counted.last, long, more, found, counted.lost, counted.total, time }
