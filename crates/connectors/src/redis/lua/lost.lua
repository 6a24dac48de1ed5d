-- Adds to the number of lost entries. KEYS: notes of the group. ARGV: number. Returns the total.
return redis.call('HINCRBY', KEYS[1], 'lost', ARGV[1])
