//! What `limit.lua` does, in Rust, for tests: one is held to the other, and simulations run on this.

use super::ask::{Ask, Grant, Mark};

/// From here on a mark begins anew.
const LONGEST: u64 = 1_000_000_000_000_000;

/// A bucket as Redis has it. All times in nanoseconds since 1970, in whole microseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    tat: u64,
    mark: Mark,
}

/// One call of the script.
pub(super) fn call(buckets: &mut [Kept], asks: &[Ask], now: u64) -> Vec<Grant> {
    let before: Vec<_> =
        buckets.iter().zip(asks).map(|(kept, ask)| kept.settle(ask, now)).collect();
    let free = before.iter().zip(asks).filter(|(_, ask)| ask.want > 0);
    let free = free.map(|(state, ask)| ask.want.min(ask.bucket.free(state.ahead)));
    let grant = free.min().unwrap_or(0);
    let mut grants = Vec::new();
    for ((kept, ask), State { mut ahead, mut mark, changed }) in
        buckets.iter_mut().zip(asks).zip(before)
    {
        let tokens = if ask.want > 0 { grant } else { 0 };
        ahead += tokens * ask.bucket.interval;
        mark.gross += tokens * ask.bucket.interval;
        if changed || tokens > 0 {
            *kept = if ahead > 0 { Kept { tat: now + ahead, mark } } else { Kept::default() };
        }
        grants.push(Grant { tokens, ahead, mark });
    }
    grants
}

/// A bucket in the middle of a call.
struct State {
    ahead: u64,
    mark: Mark,
    changed: bool,
}

impl Kept {
    /// After what was spent and given back.
    fn settle(&self, ask: &Ask, now: u64) -> State {
        let Ask { bucket, spent, back, .. } = *ask;
        let mut ahead = bucket.ahead(self.tat, now);
        let goes_on = self.tat > now && self.mark.gross < LONGEST;
        let mut mark = if goes_on { self.mark } else { Mark { begun: now / 1000, gross: 0 } };
        let mut less = 0;
        if back.mark.begun == mark.begun {
            // What was taken since the grant lies on top, and stays.
            let below = ahead.saturating_sub(mark.gross - back.mark.gross);
            less = (back.tokens * bucket.interval).min(below);
        }
        ahead -= less;
        let more = (spent * bucket.interval).min(bucket.capacity - ahead);
        ahead += more;
        mark.gross += more;
        State { ahead, mark, changed: less > 0 || spent > 0 }
    }
}
