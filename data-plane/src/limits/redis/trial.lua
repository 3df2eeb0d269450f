-- Does to a key what limit.lua does, and leaves nothing behind. A server that refuses any of it shows
-- so before a limit is counted there: a replica, one that is full, one that lets this user do less.
redis.call('TIME')
redis.call('SET', KEYS[1], 'trial', 'PX', 1000)
redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return 'done'
