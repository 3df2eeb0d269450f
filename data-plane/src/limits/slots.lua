-- Requests under way: how many slots of a bucket a holder has from now on.
-- KEYS: the bucket. ARGV: the holder; how many slots there are; how many it wants to have in all;
-- for how many milliseconds.
-- Returns how many it has now. Holder 0 is nobody, who looks: how many the others have.
--
-- A value is "holder slots end;" of each holder: how many it has, and the millisecond they end at
-- unless it asks again. So those of a holder that died are there again by themselves. A holder gets
-- less than it has only where there are fewer slots than there were.
local holder, slots, want, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- A value of another type is none.
local before = redis.pcall('GET', KEYS[1])
if type(before) == 'table' then
  if not string.find(before.err, 'WRONGTYPE', 1, true) then
    return before
  end
  before = nil
end
local taken, value, last = 0, '', 0
for other, count, ends in string.gmatch(before or '', '(%d+) (%d+) (%d+);') do
  -- Where a clock was set back, nobody has slots for longer than anyone can ask for.
  local left = math.min(tonumber(ends) - now, life)
  if other ~= holder and left > 0 then
    taken = taken + tonumber(count)
    value = value .. string.format('%s %s %.0f;', other, count, now + left)
    last = math.max(last, left)
  end
end
if holder == '0' then
  return taken
end
local granted = math.max(math.min(want, slots - taken), 0)
if granted > 0 then
  value = value .. string.format('%s %.0f %.0f;', holder, granted, now + life)
  last = life
end
if last > 0 then
  redis.call('SET', KEYS[1], value, 'PX', last)
else
  redis.call('DEL', KEYS[1])
end
return granted
