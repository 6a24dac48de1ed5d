-- Adds a dead letter although the server's memory is full: its entry is acknowledged next, which frees as much.
-- KEYS: stream of dead letters. ARGV: fields and values. Returns the id.
return redis.call('XADD', KEYS[1], '*', unpack(ARGV))
