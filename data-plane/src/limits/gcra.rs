//! The generic cell rate algorithm: one number per bucket says all.
//!
//! The number is the moment the bucket will be full again (TAT, "theoretical arrival time"). How
//! far it lies ahead is the room taken: each admitted request adds one interval, time takes it
//! away, and what would go beyond the capacity is refused. `limit.lua` is the same, to the
//! nanosecond, for many tokens at a time; `mirror.rs` holds one to the other.

use std::time::Duration;

use fastgate::model::RateLimit;

use super::Standing;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A bucket of n tokens that fills up in a minute. All times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    /// Tokens it holds.
    pub(super) quota: u32,
    /// The time one token takes, rounded up: never more than the limit is admitted.
    pub(super) interval: u64,
    /// The time all tokens take.
    pub(super) capacity: u64,
}

impl Bucket {
    /// The bucket of a limit.
    pub(super) fn new(rate: RateLimit) -> Self {
        Self::of(rate.per_minute())
    }

    /// One node's share of the bucket of a limit; a token at least, or nothing would ever pass.
    pub(super) fn share(rate: RateLimit, nodes: u32) -> Self {
        Self::of((rate.per_minute() / nodes.max(1)).max(1))
    }

    fn of(quota: u32) -> Self {
        let interval = NANOS_PER_MINUTE.div_ceil(u64::from(quota));
        Self { quota, interval, capacity: interval * u64::from(quota) }
    }

    /// How far ahead of `now` a TAT lies. More than the capacity can't be owed: a clock that was
    /// set back must not lock anyone out.
    pub(super) fn ahead(self, tat: u64, now: u64) -> u64 {
        tat.saturating_sub(now).min(self.capacity)
    }

    /// Where the bucket stands after one more request; `None`: it is refused.
    pub(super) fn take(self, ahead: u64) -> Option<u64> {
        let next = ahead + self.interval;
        (next <= self.capacity).then_some(next)
    }

    /// Tokens that are in it.
    pub(super) fn free(self, ahead: u64) -> u64 {
        self.capacity.saturating_sub(ahead) / self.interval
    }

    /// How long until a request would be admitted.
    pub(super) fn wait(self, ahead: u64) -> Duration {
        Duration::from_nanos(self.wait_nanos(ahead))
    }

    /// The same in nanoseconds.
    pub(super) fn wait_nanos(self, ahead: u64) -> u64 {
        (ahead + self.interval).saturating_sub(self.capacity)
    }

    /// What a client is told.
    pub(super) fn standing(self, name: &'static str, ahead: u64) -> Standing {
        Standing {
            name,
            quota: self.quota,
            remaining: u32::try_from(self.free(ahead)).unwrap_or(u32::MAX),
            reset: ahead.div_ceil(NANOS_PER_SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(per_minute: i64) -> Bucket {
        Bucket::new(RateLimit::parse(per_minute).expect("a rate"))
    }

    #[test]
    fn a_limit_admits_itself_at_once_then_its_refill() {
        let bucket = bucket(60);
        let mut tat = 0;
        let start = NANOS_PER_MINUTE;
        let mut admit = |now: u64| {
            let next = bucket.take(bucket.ahead(tat, now));
            tat = next.map_or(tat, |ahead| now + ahead);
            next.is_some()
        };
        assert_eq!((0..100).filter(|_| admit(start)).count(), 60);
        assert!(!admit(start + NANOS_PER_SECOND - 1));
        assert!(admit(start + NANOS_PER_SECOND));
        assert!(!admit(start + NANOS_PER_SECOND));
        assert_eq!((0..100).filter(|_| admit(start + 2 * NANOS_PER_MINUTE)).count(), 60);
    }

    #[test]
    fn clients_are_told_what_holds() {
        let bucket = bucket(60);
        let full = bucket.standing("key", 0);
        assert_eq!((full.quota, full.remaining, full.reset), (60, 60, 0));
        let one_gone = bucket.standing("key", bucket.interval);
        assert_eq!((one_gone.remaining, one_gone.reset), (59, 1));
        let empty = bucket.standing("key", bucket.capacity - 1);
        assert_eq!((empty.remaining, empty.reset), (0, 60));
        assert_eq!(bucket.wait(bucket.capacity), Duration::from_secs(1));
        assert_eq!(bucket.wait(0), Duration::ZERO);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_a_minute() {
        let bucket = bucket(7);
        assert_eq!(bucket.ahead(u64::MAX, 0), bucket.capacity);
        assert_eq!(bucket.wait(bucket.ahead(u64::MAX, 0)).as_nanos() as u64, bucket.interval);
    }

    #[test]
    fn shares_add_up_to_no_more_than_the_limit_but_one_token_each() {
        let rate = RateLimit::parse(100).expect("a rate");
        for (nodes, quota) in [(0, 100), (1, 100), (3, 33), (100, 1), (1000, 1)] {
            assert_eq!(Bucket::share(rate, nodes).quota, quota, "{nodes}");
        }
    }

    proptest! {
        /// The promise of a limit, over every window and not only from the start.
        #[test]
        fn no_window_admits_more_than_burst_and_refill(
            per_minute in prop_oneof![1_i64..200, 1_i64..=1_000_000_000],
            gaps in prop::collection::vec(
                prop_oneof![Just(0_u64), 0..NANOS_PER_SECOND, 0..2 * NANOS_PER_MINUTE], 1..300),
        ) {
            let bucket = bucket(per_minute);
            let (mut now, mut tat, mut admitted) = (0, 0, Vec::new());
            for gap in gaps {
                now += gap;
                if let Some(ahead) = bucket.take(bucket.ahead(tat, now)) {
                    tat = now + ahead;
                    admitted.push(now);
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128;
                    let refill = u128::from(to - from) * per_minute as u128;
                    let bound = per_minute as u128 + refill / u128::from(NANOS_PER_MINUTE);
                    prop_assert!(count <= bound, "{count} in {} ns", to - from);
                }
            }
        }

        /// Rounding makes a limit slower, by less than a nanosecond a token, and never faster.
        #[test]
        fn no_bucket_fills_up_in_less_than_a_minute(per_minute in 1_i64..=1_000_000_000) {
            let capacity = bucket(per_minute).capacity;
            let bound = NANOS_PER_MINUTE + per_minute as u64;
            prop_assert!((NANOS_PER_MINUTE..bound).contains(&capacity), "{capacity}");
        }

        /// The other half of the promise: nobody is refused who waited as told.
        #[test]
        fn whoever_waits_as_told_is_admitted(per_minute in 1_i64..=1_000_000_000, ahead: u64) {
            let bucket = bucket(per_minute);
            let ahead = ahead.min(bucket.capacity);
            let wait = bucket.wait(ahead).as_nanos() as u64;
            prop_assert!(bucket.take(ahead.saturating_sub(wait)).is_some());
            if wait > 0 {
                prop_assert!(bucket.take(ahead - wait + 1).is_none());
            }
        }
    }
}
