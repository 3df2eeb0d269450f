-- Leases tokens from every bucket, or from none: gcra.rs, with Redis's clock and for all nodes.
-- KEYS: the buckets. ARGV, seven of each: the interval and the capacity in nanoseconds; how many
-- tokens are wanted; how many were spent while Redis was away; how many of those granted before
-- are given back, and the mark of that grant, which is two numbers.
-- Returns four numbers of each: how many tokens are granted, how far ahead of now the bucket is
-- full again, and the mark of this grant.
--
-- All that want tokens get the same number, at least one, or none at all: of several limits on the
-- same requests, what one gives beyond the others would be spent on nothing.
--
-- A value is "seconds.nanoseconds begun gross": when the bucket is full again (as one number it
-- would not fit a Lua number exactly), the microsecond from which on it never was, and the
-- nanoseconds of tokens taken since, those given back included. The last two are the mark.
local PER_BUCKET = 7
local time = redis.call('TIME')
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local nanos = micros * 1000
local buckets, grant = {}, nil

for i, key in ipairs(KEYS) do
  local function arg(at)
    return tonumber(ARGV[PER_BUCKET * (i - 1) + at])
  end
  local interval, capacity, want, spent, back = arg(1), arg(2), arg(3), arg(4), arg(5)
  local ahead, begun, gross, changed = 0, seconds * 1000000 + micros, 0, false
  local s, ns, b, g = string.match(redis.call('GET', key) or '', '^(%d+)%.(%d+) (%d+) (%d+)$')
  local left = s and (tonumber(s) - seconds) * 1000000000 + tonumber(ns) - nanos or 0
  -- Far from where numbers stop being exact, the mark begins anew: nobody can give back over that.
  if left > 0 and tonumber(g) < 1000000000000000 then
    begun, gross = tonumber(b), tonumber(g)
  end
  ahead = math.min(math.max(left, 0), capacity)
  -- What was granted after it lies on top of what is given back and stays; what time has taken
  -- away since is gone: a bucket gets no fuller by this than if the tokens had never been granted.
  if back > 0 and arg(6) == begun then
    local below = ahead - (gross - arg(7))
    local less = math.max(math.min(back * interval, below), 0)
    ahead, changed = ahead - less, less > 0
  end
  if spent > 0 then
    local more = math.min(spent * interval, capacity - ahead)
    ahead, gross, changed = ahead + more, gross + more, true
  end
  if want > 0 then
    local free = math.min(want, math.floor((capacity - ahead) / interval))
    grant = math.min(grant or free, free)
  end
  buckets[i] = { interval, want, ahead, begun, gross, changed }
end

local answer = {}
for i, key in ipairs(KEYS) do
  local interval, want, ahead, begun, gross, changed = unpack(buckets[i])
  local granted = want > 0 and grant or 0
  if granted > 0 then
    ahead, gross, changed = ahead + granted * interval, gross + granted * interval, true
  end
  if changed and ahead > 0 then
    local at = nanos + ahead
    local tat = string.format('%.0f.%09d', seconds + math.floor(at / 1000000000), at % 1000000000)
    local value = string.format('%s %.0f %.0f', tat, begun, gross)
    redis.call('SET', key, value, 'PX', math.ceil(ahead / 1000000))
  elseif changed then
    redis.call('DEL', key)
  end
  for _, number in ipairs({ granted, ahead, begun, gross }) do
    table.insert(answer, number)
  end
end
return answer
