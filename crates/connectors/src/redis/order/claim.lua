-- Takes entries of consumers that are dead, lowest first, and forgets dead consumers that have none.
-- KEYS: stream, seen. ARGV: group, consumer, what alive keys and registers begin with, how many at most, how long an entry has to have
-- lain (ms), whether consumers that only fell silent count as dead (1) or just those that said they leave (0), and after
-- how many deliveries an entry is suspect: taking it is no delivery then, handing it out will be.
-- Answers the entries taken, their deliveries before, and the ids of those whose entry had been deleted.
local stream, seen = KEYS[1], KEYS[2]
local group, me, alive, registers, room = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local idle, silent, suspect = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])

local entries, deliveries, lost = {}, {}, {}

local function take(open)
  for _, row in ipairs(open) do
    local id, count = row[1], row[4]
    local taken
    if count < suspect then
      taken = redis.call('XCLAIM', stream, group, me, 0, id)
    else
      taken = redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count)
    end
    if taken[1] then
      entries[#entries + 1] = taken[1]
      deliveries[#deliveries + 1] = count
    else
      lost[#lost + 1] = id
    end
  end
  room = room - #open
end

local known = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = named(flat)
  known[consumer.name] = true
  if consumer.name ~= me and redis.call('EXISTS', alive .. consumer.name) == 0 then
    local left = redis.call('HGET', seen, consumer.name) == 'left'
    if consumer.pending == 0 then
      if left or (silent and consumer.idle >= idle) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
        redis.call('HDEL', seen, consumer.name)
        redis.call('DEL', registers .. consumer.name)
      end
    elseif room > 0 and (left or silent) then
      take(redis.call('XPENDING', stream, group, 'IDLE', left and 0 or idle, '-', '+', room, consumer.name))
    end
  end
end

-- Who died before its first read is not among the consumers.
for _, name in ipairs(redis.call('HKEYS', seen)) do
  if not known[name] and redis.call('EXISTS', alive .. name) == 0 then
    redis.call('HDEL', seen, name)
    redis.call('DEL', registers .. name)
  end
end

-- What was taken is not registered yet, and lies below what this consumer had registered.
if #entries > 0 then
  redis.call('HSET', seen, me, '0-0')
end
return { entries, deliveries, lost }
