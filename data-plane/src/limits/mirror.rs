//! What `limit.lua` does, in Rust, for tests: one is held to the other, and simulations run on this.

use super::{
    ask::{Ask, Grant, Mark, Version},
    gcra::{Moment, Refill},
};

/// From here on a mark begins anew.
const LONGEST: u64 = 1_000_000_000_000_000;

/// As many seconds a day or month is new.
const NEW: u64 = 60;

/// A bucket as Redis has it. Of a rate: times in nanoseconds since 1970, in whole microseconds. Of a
/// quota: tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    tat: u64,
    mark: Mark,
    /// When it was written last.
    written: u64,
    /// The second the day or month of a quota ends.
    ends: u64,
}

/// One call of the script.
pub(super) fn call(buckets: &mut [Kept], asks: &[Ask], at: u64) -> Vec<Grant> {
    let before: Vec<_> = buckets.iter().zip(asks).map(|(kept, ask)| kept.settle(ask, at)).collect();
    let free = before.iter().zip(asks).filter(|(_, ask)| ask.want > 0);
    let free = free.map(|(state, ask)| ask.want.min(ask.bucket.free(state.taken)));
    let grant = free.min().unwrap_or(0);
    let mut grants = Vec::new();
    for (
        (kept, ask),
        State { now, ends, mut taken, mut mark, changed, passed_over, mut written },
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
                _ => Kept { tat: now.at + taken, mark, written: at, ends },
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
    ends: u64,
    taken: u64,
    mark: Mark,
    changed: bool,
    passed_over: u64,
    written: u64,
}

/// Where a bucket goes on at a moment.
struct Start {
    now: Moment,
    ends: u64,
    mark: Mark,
    is_anew: bool,
}

impl Kept {
    /// After what was spent and given back.
    fn settle(&self, ask: &Ask, at: u64) -> State {
        let Ask { bucket, spent, spent_for, back, floor, seen, is_recall, .. } = *ask;
        let Start { now, ends, mut mark, is_anew } = self.start(bucket.refill, at);
        let is_quota = now.ends_in.is_some();
        let told = if is_recall { at / 1000 } else { mark.gross };
        // Where the clock was set back, time goes on from when it was written.
        let ahead = match bucket.refill {
            Refill::Steady if self.tat > at => self.written.saturating_sub(at),
            Refill::Steady | Refill::Calendar(_) => 0,
        };
        let tat = self.tat - ahead;
        let mut taken = if is_anew && is_quota { 0 } else { bucket.level(tat, now).taken };
        let mut less = 0;
        if back.mark.begun == mark.begun {
            // What was taken since the grant lies on top, and stays.
            let on_top = mark.gross.saturating_sub(back.mark.gross);
            let on_top = if is_quota { 0 } else { on_top };
            less = (back.tokens * bucket.interval).min(taken.saturating_sub(on_top));
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
        let is_told = is_quota && told + spent_for > at / 1000;
        let (spent, passed_over) = if is_told { (0, spent) } else { (spent, 0) };
        let more = (spent * bucket.interval).min(bucket.most() - taken);
        taken += more;
        mark.gross += more;
        if is_quota {
            mark.gross = told;
        }
        let changed = less > 0 || forgotten > 0 || spent > 0 || is_recall || ahead > 0;
        State { now, ends, taken, mark, changed, passed_over, written }
    }

    fn start(&self, refill: Refill, at: u64) -> Start {
        let Refill::Calendar(calendar) = refill else {
            let is_anew = self.tat <= at || self.mark.gross >= LONGEST;
            let mark = if is_anew { Mark { begun: at / 1000, gross: 0 } } else { self.mark };
            return Start { now: Moment { at, ends_in: None }, ends: 0, mark, is_anew };
        };
        let (_, seconds) = calendar.period(at / 1_000_000_000).expect("a day");
        let ends = seconds.end;
        let now = Moment { at: 0, ends_in: Some(ends * 1_000_000_000 - at) };
        let is_anew = self.ends != ends;
        let is_new = at / 1_000_000_000 - seconds.start < NEW;
        let told = if is_new { seconds.start * 1_000_000 } else { 0 };
        let mark = if is_anew { Mark { begun: at / 1000, gross: told } } else { self.mark };
        Start { now, ends, mark, is_anew }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::gcra::Bucket;

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
