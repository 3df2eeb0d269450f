//! What `limit.lua` does, in Rust, for tests: one is held to the other, and simulations run on this.

use super::{
    ask::{Ask, Grant, Mark},
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
}

/// One call of the script.
pub(super) fn call(buckets: &mut [Kept], asks: &[Ask], at: u64) -> Vec<Grant> {
    let before: Vec<_> = buckets.iter().zip(asks).map(|(kept, ask)| kept.settle(ask, at)).collect();
    let free = before.iter().zip(asks).filter(|(_, ask)| ask.want > 0);
    let free = free.map(|(state, ask)| ask.want.min(ask.bucket.free(state.taken)));
    let grant = free.min().unwrap_or(0);
    let mut grants = Vec::new();
    for ((kept, ask), State { now, mut taken, mut mark, changed }) in
        buckets.iter_mut().zip(asks).zip(before)
    {
        let tokens = if ask.want > 0 { grant } else { 0 };
        taken += tokens * ask.bucket.interval;
        let is_quota = now.ends_in.is_some();
        if !is_quota {
            mark.gross += tokens * ask.bucket.interval;
        }
        if changed || tokens > 0 {
            *kept = match taken {
                0 if !is_quota => Kept::default(),
                _ => Kept { tat: now.at + taken, mark, written: at },
            };
        }
        grants.push(Grant { tokens, taken, mark, ends_in: now.ends_in });
    }
    grants
}

/// A bucket in the middle of a call.
struct State {
    now: Moment,
    taken: u64,
    mark: Mark,
    changed: bool,
}

impl Kept {
    /// After what was spent and given back.
    fn settle(&self, ask: &Ask, at: u64) -> State {
        let Ask { bucket, spent, back, floor, is_recall, .. } = *ask;
        let (now, mut mark, is_anew) = self.mark_at(bucket.refill, at);
        let known = mark.gross;
        // Where the clock was set back, time goes on from when it was written.
        let ahead = match bucket.refill {
            Refill::Steady if self.tat > at => self.written.saturating_sub(at),
            Refill::Steady | Refill::Calendar(_) => 0,
        };
        let tat = self.tat - ahead;
        let mut taken =
            if is_anew && now.ends_in.is_some() { 0 } else { bucket.level(tat, now).taken };
        let mut less = 0;
        if back.mark.begun == mark.begun {
            // What was taken since the grant lies on top, and stays.
            let on_top = mark.gross.saturating_sub(back.mark.gross);
            let on_top = if now.ends_in.is_some() { 0 } else { on_top };
            less = (back.tokens * bucket.interval).min(taken.saturating_sub(on_top));
        }
        taken -= less;
        let forgotten = floor.min(bucket.most()).saturating_sub(taken);
        taken += forgotten;
        mark.gross += forgotten;
        let more = (spent * bucket.interval).min(bucket.most() - taken);
        taken += more;
        mark.gross += more;
        if now.ends_in.is_some() {
            mark.gross = known.max(u64::from(is_recall));
        }
        let changed = less > 0 || forgotten > 0 || spent > 0 || is_recall || ahead > 0;
        State { now, taken, mark, changed }
    }

    /// The moment, the mark that goes on there, and whether it begins anew.
    fn mark_at(&self, refill: Refill, now: u64) -> (Moment, Mark, bool) {
        let Refill::Calendar(calendar) = refill else {
            let moment = Moment { at: now, ends_in: None };
            return if self.tat > now && self.mark.gross < LONGEST {
                (moment, self.mark, false)
            } else {
                (moment, Mark { begun: now / 1000, gross: 0 }, true)
            };
        };
        let (_, seconds) = calendar.period(now / 1_000_000_000).expect("a day");
        let ends = seconds.end;
        let moment = Moment { at: 0, ends_in: Some(ends * 1_000_000_000 - now) };
        let is_anew = self.mark.begun != ends;
        let is_new = now / 1_000_000_000 - seconds.start < NEW;
        let gross = if is_anew { u64::from(is_new) } else { self.mark.gross };
        (moment, Mark { begun: ends, gross }, is_anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ask::Back, gcra::Bucket};

    #[test]
    fn what_was_written_ahead_of_time_holds_for_as_long_as_it_would_have() {
        const SECOND: u64 = 1_000_000_000;
        const HOUR: u64 = 3_600 * SECOND;
        let bucket = Bucket::steady(SECOND, 10);
        let ask = |want| {
            let back = Back::default();
            Ask { bucket, want, spent: 0, back, floor: 0, is_recall: false }
        };
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
