-- Leases tokens from every bucket, or from none: gcra.rs, with Redis's clock and for all nodes.
-- KEYS: the buckets. ARGV, fourteen of each: the room one token takes, the room there is, and the most that
-- can be taken (more than there is where requests are charged when they are over); what makes room
-- again (0: every nanosecond one; 1: the end of the day; 2: that of the month); how many tokens are
-- wanted; how many were spent already; how many of those granted before are given back, and the mark
-- of that grant, which is two numbers; the room taken at least, as far as was known of another Redis;
-- 1 where that is all that was used of a quota, as it is stored; how many microseconds ago the first of
-- those that were spent was; when the value of a quota that room was seen taken in was made and written.
-- Returns seven numbers of each: how many tokens are granted, the room taken, the mark of this grant,
-- the nanoseconds until the day or month is over (0: it is of no day or month), how many of those that
-- were spent are passed over, and when the value of a quota was written.
--
-- All that want tokens get the same number, at least one, or none at all: of several limits on the
-- same requests, what one gives beyond the others would be spent on nothing.
--
-- A value is "seconds.nanoseconds begun gross written". Of a rate: when the bucket is full again (as one
-- number it would not fit a Lua number exactly), the microsecond from which on it never was, and the
-- nanoseconds of tokens taken since, those given back included. Then comes the microsecond of this
-- write: where that is yet to come, the clock was set back, and time goes on from there.
--
-- Of a quota a value is "taken.refill made told written ends": the tokens taken, and whether they are of a
-- day or of a month; the microsecond it was made in, so that nothing is given back to another Redis, or to
-- this one once it has lost what it knew; that in which somebody told what is stored of its use, until
-- when it is 0, for it may be forgotten; and the second its day or month ends. Who saw it as it is, or as
-- it was before, has nothing to tell of it: by now others may have given back what was taken then. Who saw
-- it as it will only be has seen what this Redis lost: then it is made anew, for all others to say what
-- they saw, and for what is stored to be told again. What was spent a while before somebody told need not
-- be added to what was told: that has it, or will have when it is told anew. What was spent just before
-- could not be stored yet.
--
-- In both the second and third number are the mark. A value of another type is none.
local PER_BUCKET = 14
-- A day or month that began so few seconds ago is taken for new to everybody: no use of it is forgotten.
local NEW = 60
-- What was spent so many microseconds before what is stored was told, was not stored yet.
local UNSTORED = 100000
local time = redis.call('TIME')
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local moment = seconds * 1000000 + micros

-- The seconds at which the day or month of now ends and began, of UTC. Years are taken to begin in March:
-- the day of a leap year is their last.
local function period(is_month)
  local days = math.floor(seconds / 86400)
  if not is_month then
    return (days + 1) * 86400, days * 86400
  end
  local since = days + 719468
  local of_era = since % 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5)
  local length = ({ 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31 })[month + 1]
  if not length then
    local next = year + 1
    local is_leap = next % 4 == 0 and (next % 100 ~= 0 or next % 400 == 0)
    length = is_leap and 29 or 28
  end
  return (days - day + length) * 86400, (days - day) * 86400
end

local buckets, grant = {}, nil

for i, key in ipairs(KEYS) do
  local function arg(at)
    return tonumber(ARGV[PER_BUCKET * (i - 1) + at])
  end
  local interval, capacity, most, refill = arg(1), arg(2), arg(3), arg(4)
  local want, spent, back = arg(5), arg(6), arg(7)
  local now, nanos, ends, began = seconds, micros * 1000, nil, nil
  if refill > 0 then
    now, nanos, ends, began = 0, 0, period(refill == 2)
  end
  local is_recall = arg(11) == 1
  local begun, gross, told, changed, passed_over, written = moment, 0, 0, is_recall, 0, 0
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then
    if not string.find(value.err, 'WRONGTYPE', 1, true) then
      return value
    end
    value = nil
  end
  local s, ns, b, g, w, e = string.match(value or '', '^(%d+)%.(%d+) (%d+) (%d+) (%d+) ?(%d*)$')
  local left = s and (ends or e == '') and (tonumber(s) - now) * 1000000000 + tonumber(ns) - nanos or 0
  local ahead = (tonumber(w or '') or 0) - moment
  if ends then
    local at_first = seconds - began < NEW and began * 1000000 or 0
    if tonumber(e or '') == ends and tonumber(ns) == refill then
      left, begun, told, written = tonumber(s), tonumber(b), tonumber(g), tonumber(w)
      if arg(13) == begun and arg(14) > written then
        begun, told, changed = moment, at_first, true
      end
    else
      left, told = 0, at_first
    end
    told = is_recall and moment or told
  -- Far from where numbers stop being exact, the mark begins anew: nobody can give back over that.
  elseif left > 0 and tonumber(g) < 1000000000000000 then
    begun, gross = tonumber(b), tonumber(g)
  end
  if not ends and left > 0 and ahead > 0 then
    left, changed = left - ahead * 1000, true
  end
  -- What is beyond is of the limit as it was. It is forgiven once: a request that is refused would else
  -- find it there again, however long it waited.
  if left > most then
    left, changed = most, true
  end
  local taken = math.max(left, 0)
  -- What was granted after it lies on top of what is given back and stays; what time has taken
  -- away since is gone: a bucket gets no fuller by this than if the tokens had never been granted.
  -- Of a quota time takes nothing away.
  if back > 0 and arg(8) == begun then
    local below = ends and taken or taken - math.max(gross - arg(9), 0)
    local less = math.max(math.min(back * interval, below), 0)
    taken, changed = taken - less, changed or less > 0
  end
  local is_as_seen = ends and arg(13) == begun and arg(14) <= written
  local forgotten = is_as_seen and 0 or math.min(arg(10), most) - taken
  if forgotten > 0 then
    taken, gross, changed = taken + forgotten, gross + forgotten, true
    -- What was granted before and not spent is not among what is stored: none of that comes back.
    begun = is_recall and moment or begun
  end
  if ends and told - UNSTORED > moment - arg(12) then
    spent, passed_over = 0, spent
  end
  if spent > 0 then
    local more = math.min(spent * interval, most - taken)
    taken, gross, changed = taken + more, gross + more, true
  end
  if want > 0 then
    local free = math.min(want, math.max(math.floor((capacity - taken) / interval), 0))
    grant = math.min(grant or free, free)
  end
  gross = ends and told or gross
  buckets[i] =
    { interval, want, taken, begun, gross, changed, now, nanos, ends, passed_over, written, refill }
end

local answer = {}
for i, key in ipairs(KEYS) do
  local interval, want, taken, begun, gross, changed, now, nanos, ends, passed_over, written, refill =
    unpack(buckets[i], 1, 12)
  local granted = want > 0 and grant or 0
  if granted > 0 then
    taken, changed = taken + granted * interval, true
    gross = ends and gross or gross + granted * interval
  end
  if changed and (taken > 0 or ends) then
    local at = nanos + taken
    local full = ends and string.format('%.0f.%.0f', taken, refill)
      or string.format('%.0f.%09d', now + math.floor(at / 1000000000), at % 1000000000)
    local behind = ends and string.format(' %.0f', ends) or ''
    local value = string.format('%s %.0f %.0f %.0f%s', full, begun, gross, moment, behind)
    local ttl = ends and (ends - seconds) * 1000 or math.ceil(taken / 1000000)
    redis.call('SET', key, value, 'PX', ttl)
    written = ends and moment or 0
  elseif changed then
    redis.call('DEL', key)
  end
  local ends_in = ends and (ends - seconds) * 1000000000 - micros * 1000 or 0
  for _, number in ipairs({ granted, taken, begun, gross, ends_in, passed_over, written }) do
    table.insert(answer, number)
  end
end
return answer
