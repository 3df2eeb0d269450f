-- Takes a token from every bucket, or none: gcra.rs, with Redis's clock and for all nodes.
-- KEYS: the buckets. ARGV: interval and capacity of each, in nanoseconds.
-- Returns 1 (admitted) or 0, then how far ahead of now each bucket is full again.
-- A value is "seconds.nanoseconds": as one number it would not fit a Lua number exactly.
local time = redis.call('TIME')
local seconds, nanos = tonumber(time[1]), tonumber(time[2]) * 1000
local answer = { 1 }

for i, key in ipairs(KEYS) do
  local interval, capacity = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local ahead = 0
  local s, ns = string.match(redis.call('GET', key) or '', '^(%d+)%.(%d+)$')
  if s then
    ahead = (tonumber(s) - seconds) * 1000000000 + tonumber(ns) - nanos
    ahead = math.min(math.max(ahead, 0), capacity)
  end
  answer[i + 1] = ahead
  if ahead + interval > capacity then
    answer[1] = 0
  end
end

if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    local ahead = answer[i + 1] + tonumber(ARGV[2 * i - 1])
    answer[i + 1] = ahead
    local at = nanos + ahead
    local tat = string.format('%d.%09d', seconds + math.floor(at / 1000000000), at % 1000000000)
    redis.call('SET', key, tat, 'PX', math.ceil(ahead / 1000000))
  end
end
return answer
