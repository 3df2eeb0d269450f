//! What `limit.lua` does, in Rust, for tests: one is held to the other, and simulations run on this.

use fastgate::model::Calendar;

use super::{
    ask::{Ask, Grant, Mark, Version},
    gcra::{Moment, Refill},
};

/// From here on a mark begins anew.
const LONGEST: u64 = 1_000_000_000_000_000;

/// As many seconds a day or month is new.
const NEW: u64 = 60;

/// Microseconds before what is stored is told, in which nothing was stored yet.
const UNSTORED: u64 = 100_000;

/// A bucket as Redis has it. Of a rate: times in nanoseconds since 1970, in whole microseconds. Of a
/// quota: tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    tat: u64,
    mark: Mark,
    /// When it was written last.
    written: u64,
    /// The day or month of a quota, and the second it ends.
    period: Option<(Calendar, u64)>,
}

/// One call of the script.
pub(super) fn call(buckets: &mut [Kept], asks: &[Ask], at: u64) -> Vec<Grant> {
    let before: Vec<_> = buckets
        .iter()
        .zip(asks)
        .map(|(kept, ask)| kept.for_one_of(ask.bucket.refill).settle(ask, at))
        .collect();
    let free = before.iter().zip(asks).filter(|(_, ask)| ask.want > 0);
    let free = free.map(|(state, ask)| ask.want.min(ask.bucket.free(state.taken)));
    let grant = free.min().unwrap_or(0);
    let mut grants = Vec::new();
    for (
        (kept, ask),
        State { now, period, mut taken, mut mark, changed, passed_over, mut written },
    ) in buckets.iter_mut().zip(asks).zip(before)
    {
        let tokens = if ask.want > 0 { grant } else { 0 };
        taken += tokens * ask.bucket.interval;
        let is_quota = now.ends_in.is_some();
        if !is_quota {
            mark.gross += tokens * ask.bucket.interval;
        }
        if changed || tokens > 0 {
            written = at;
            *kept = match taken {
                0 if !is_quota => Kept::default(),
                _ => Kept { tat: now.at + taken, mark, written: at, period },
            };
        }
        let version = match is_quota {
            true => Version { made: mark.begun, written: written / 1000 },
            false => Version::default(),
        };
        grants.push(Grant { tokens, taken, mark, ends_in: now.ends_in, passed_over, version });
    }
    grants
}

/// A bucket in the middle of a call.
struct State {
    now: Moment,
    period: Option<(Calendar, u64)>,
    taken: u64,
    mark: Mark,
    changed: bool,
    passed_over: u64,
    written: u64,
}

/// Where a bucket goes on at a moment.
struct Start {
    now: Moment,
    period: Option<(Calendar, u64)>,
    mark: Mark,
    is_anew: bool,
    /// Whether writes of it were lost since somebody saw it.
    is_older: bool,
}

impl Kept {
    /// What it says to a bucket that this makes room in: nothing where it is of another one.
    fn for_one_of(self, refill: Refill) -> Self {
        let is_of_it = match (refill, self.period) {
            (Refill::Steady, period) => period.is_none(),
            (Refill::Calendar(one), Some((other, _))) => one == other,
            (Refill::Calendar(_), None) => false,
        };
        if is_of_it { self } else { Self::default() }
    }

    /// After what was spent and given back.
    fn settle(&self, ask: &Ask, at: u64) -> State {
        let Ask { bucket, spent, spent_for, back, floor, seen, is_recall, .. } = *ask;
        let Start { now, period, mut mark, is_anew, is_older } =
            self.start(bucket.refill, seen, at);
        let is_quota = now.ends_in.is_some();
        let told = if is_recall { at / 1000 } else { mark.gross };
        // Where the clock was set back, time goes on from when it was written.
        let ahead = match bucket.refill {
            Refill::Steady if self.tat > at => self.written.saturating_sub(at),
            Refill::Steady | Refill::Calendar(_) => 0,
        };
        let tat = self.tat - ahead;
        let left = if is_anew && is_quota { 0 } else { tat.saturating_sub(now.at) };
        let mut taken = left.min(bucket.most());
        let is_forgiven = left > taken;
        let mut less = 0;
        if back.mark.begun == mark.begun {
            // What was taken since the grant lies on top, and stays.
            let on_top = mark.gross.saturating_sub(back.mark.gross);
            let on_top = if is_quota { 0 } else { on_top };
            less = back.tokens.saturating_mul(bucket.interval).min(taken.saturating_sub(on_top));
        }
        taken -= less;
        let written = if is_anew { 0 } else { self.written };
        let is_as_seen = is_quota && seen.made == mark.begun && seen.written <= written / 1000;
        let floor = if is_as_seen { 0 } else { floor };
        let forgotten = floor.min(bucket.most()).saturating_sub(taken);
        taken += forgotten;
        mark.gross += forgotten;
        if is_recall && forgotten > 0 {
            mark.begun = at / 1000;
        }
        let is_told = is_quota && told + spent_for > at / 1000 + UNSTORED;
        let (spent, passed_over) = if is_told { (0, spent) } else { (spent, 0) };
        let more = bucket.room(spent).min(bucket.most() - taken);
        taken += more;
        mark.gross += more;
        if is_quota {
            mark.gross = told;
        }
        let is_told_something = less > 0 || forgotten > 0 || spent > 0 || is_recall;
        let changed = is_told_something || is_forgiven || ahead > 0 || is_older;
        State { now, period, taken, mark, changed, passed_over, written }
    }

    fn start(&self, refill: Refill, seen: Version, at: u64) -> Start {
        let Refill::Calendar(calendar) = refill else {
            let is_anew = self.tat <= at || self.mark.gross >= LONGEST;
            let mark = if is_anew { Mark { begun: at / 1000, gross: 0 } } else { self.mark };
            let now = Moment { at, ends_in: None };
            return Start { now, period: None, mark, is_anew, is_older: false };
        };
        let (_, seconds) = calendar.period(at / 1_000_000_000).expect("a day");
        let ends = seconds.end;
        let now = Moment { at: 0, ends_in: Some(ends * 1_000_000_000 - at) };
        let period = Some((calendar, ends));
        let is_anew = self.period != period;
        let is_older =
            !is_anew && seen.made == self.mark.begun && seen.written > self.written / 1000;
        let is_new = at / 1_000_000_000 - seconds.start < NEW;
        let told = if is_new { seconds.start * 1_000_000 } else { 0 };
        let mark = match is_anew || is_older {
            true => Mark { begun: at / 1000, gross: told },
            false => self.mark,
        };
        Start { now, period, mark, is_anew, is_older }
    }
}

#[cfg(test)]
mod tests {
    use fastgate::model::{Cost, Quota, Tokens};

    use super::*;
    use crate::limits::gcra::Bucket;

    fn quota(calendar: Calendar) -> Bucket {
        let quota = Quota::parse(100, calendar).expect("a quota");
        Bucket::new(Tokens::Quota(quota), &Cost::ONE)
    }

    #[test]
    fn what_was_used_of_a_day_says_nothing_of_a_month_that_ends_with_it() {
        // Noon of 2027-01-31.
        let (mut kept, now) = ([Kept::default()], 1_801_396_800_000_000_000);
        let mut taken = |calendar, want| {
            call(&mut kept, &[Ask { want, ..Ask::about(quota(calendar)) }], now)[0].taken
        };
        assert_eq!(taken(Calendar::Day, 7), 7);
        assert_eq!(taken(Calendar::Month, 1), 1);
    }

    #[test]
    fn what_was_spent_just_before_what_is_stored_was_told_is_added_to_it() {
        const MILLISECOND: u64 = 1_000_000;
        let (mut kept, now) = ([Kept::default()], 1_800_000_000_000_000_000);
        let bucket = quota(Calendar::Month);
        let recall = Ask { floor: 30, is_recall: true, ..Ask::about(bucket) };
        call(&mut kept, &[recall], now);
        let mut tell = |milliseconds_before: u64| {
            let at = now + 10 * MILLISECOND;
            let spent_for = 1000 * (10 + milliseconds_before);
            let ask = Ask { spent: 5, spent_for, ..Ask::about(bucket) };
            let grant = call(&mut kept, &[ask], at)[0];
            (grant.taken, grant.passed_over)
        };
        assert_eq!([tell(90), tell(110)], [(35, 0), (35, 5)]);
    }

    #[test]
    fn what_was_written_ahead_of_time_holds_for_as_long_as_it_would_have() {
        const SECOND: u64 = 1_000_000_000;
        const HOUR: u64 = 3_600 * SECOND;
        let bucket = Bucket::steady(SECOND, 10);
        let ask = |want| Ask { want, ..Ask::about(bucket) };
        let (mut kept, now) = ([Kept::default()], 1_800_000_000 * SECOND);
        let mut granted = |want, now| call(&mut kept, &[ask(want)], now)[0].tokens;
        assert_eq!(granted(20, now + HOUR), 10);
        assert_eq!(granted(20, now), 0, "the clock was set back");
        assert_eq!(granted(20, now + 4 * SECOND), 4);
        assert_eq!(granted(20, now + 64 * SECOND), 10);
        assert_eq!(granted(20, now + 64 * SECOND), 0);
        // No call comes until long after.
        assert_eq!(granted(20, now + 2 * HOUR), 10);
        assert_eq!(granted(20, now + HOUR), 0);
        assert_eq!(granted(20, now + HOUR + 3 * SECOND), 3);
    }
}
