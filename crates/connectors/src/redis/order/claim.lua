-- Takes entries of consumers that are dead, lowest first, and forgets dead consumers that have none.
-- KEYS: stream, seen. ARGV: group, consumer, what alive keys begin with, how many at most, how long an entry has to have
-- lain (ms), and whether consumers that only fell silent count as dead (1) or just those that said they leave (0).
-- Answers the entries taken, their deliveries, and the ids of those whose entry had been deleted.
local stream, seen = KEYS[1], KEYS[2]
local group, me, alive, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local idle, silent = tonumber(ARGV[5]), ARGV[6] == '1'

local entries, deliveries, lost = {}, {}, {}

local function take(open)
  local ids, count = {}, {}
  for i, row in ipairs(open) do
    ids[i] = row[1]
    count[row[1]] = row[4]
  end
  for _, entry in ipairs(redis.call('XCLAIM', stream, group, me, 0, unpack(ids))) do
    if entry then
      entries[#entries + 1] = entry
      deliveries[#deliveries + 1] = count[entry[1]] + 1
      count[entry[1]] = nil
    end
  end
  for id in pairs(count) do
    lost[#lost + 1] = id
  end
  room = room - #ids
end

for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = named(flat)
  if consumer.name ~= me and redis.call('EXISTS', alive .. consumer.name) == 0 then
    local left = redis.call('HGET', seen, consumer.name) == 'left'
    if consumer.pending == 0 then
      if left or (silent and consumer.idle >= idle) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
        redis.call('HDEL', seen, consumer.name)
      end
    elseif room > 0 and (left or silent) then
      local open = redis.call('XPENDING', stream, group, 'IDLE', left and 0 or idle, '-', '+', room, consumer.name)
      if #open > 0 then
        take(open)
      end
    end
  end
end

-- What was taken is not registered yet, and lies below what this consumer had registered.
if #entries > 0 then
  redis.call('HSET', seen, me, '0-0')
end
return { entries, deliveries, lost }
