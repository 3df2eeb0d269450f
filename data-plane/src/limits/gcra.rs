//! What a bucket holds, and the generic cell rate algorithm: one number per bucket says all.
//!
//! The number of a rate is the moment the bucket will be full again (TAT, "theoretical arrival time").
//! How far it lies ahead is the room taken: each admitted request adds one interval, time takes it
//! away, and what would go beyond the capacity is refused. A quota is the same in a time that stands
//! still until the day or month ends, in steps of one. `limit.lua` is the same, to the nanosecond,
//! for many tokens at a time; `mirror.rs` holds one to the other.

use std::time::Duration;

use fastgate::model::{Calendar, Cost, Tokens, bounds};

use super::crowd::SLACK;

/// A bucket of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    /// The room a token takes, or as many as the next one says: of a rate the nanoseconds they are
    /// refilled in, of a quota 1.
    pub(super) interval: u64,
    /// 1, but for a rate that requests are charged to when they are over: a byte of it may take less than
    /// a nanosecond.
    pub(super) per: u64,
    /// The room there is.
    pub(super) capacity: u64,
    /// What makes room again.
    pub(super) refill: Refill,
    /// Whether requests take no token when they are admitted, which they are while there is one, but
    /// as many as they turn out to cost when they are over.
    pub(super) is_charged: bool,
}

/// What makes room in a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refill {
    /// Every nanosecond makes one of room.
    Steady,
    /// All of it, when the day or month is over.
    Calendar(Calendar),
}

/// Where a bucket stands.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Level {
    /// The room taken.
    pub(super) taken: u64,
    /// Nanoseconds until none is, if nobody takes any.
    pub(super) resets_in: u64,
}

/// A moment, as buckets of one kind count time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    /// Of rates the nanosecond; of quotas a number of the day or month that is further from that of
    /// the next one than any quota is large, and than any nanosecond.
    pub(super) at: u64,
    /// Nanoseconds until the day or month is over; `None` for rates.
    pub(super) ends_in: Option<u64>,
}

impl Moment {
    /// Numbers up to the largest quota fit in: [`bounds::QUOTA`].
    const QUOTA_BITS: u32 = 40;

    /// Tells days from nanoseconds.
    const DAY: u64 = 1 << 62;

    /// Tells months from both.
    const MONTH: u64 = 1 << 63;

    /// The day or month of this number since 1970, which is over in so many nanoseconds.
    pub(super) fn of_period(calendar: Calendar, number: u64, ends_in: u64) -> Self {
        let kind = match calendar {
            Calendar::Day => Self::DAY,
            Calendar::Month => Self::MONTH,
        };
        Self { at: kind | number << Self::QUOTA_BITS, ends_in: Some(ends_in) }
    }

    /// What makes room in a bucket of this TAT.
    pub(super) fn refill_of(tat: u64) -> Refill {
        match (tat & Self::MONTH, tat & Self::DAY) {
            (0, 0) => Refill::Steady,
            (0, _) => Refill::Calendar(Calendar::Day),
            _ => Refill::Calendar(Calendar::Month),
        }
    }
}

const _: () = assert!(bounds::QUOTA < 1 << Moment::QUOTA_BITS);

/// The room of a rate that requests can take beyond what there is, where they are charged when they are
/// over: what it refills in a day. So no answer, however large, shuts anyone out for longer.
const DEBT: u64 = 86_400_000_000_000;

/// So much more than the most may be seen taken of a rate by who looked at the time a while ago, others
/// having taken tokens since. It is no more than is promised anyway, should it be forgotten.
const SKEW: u64 = SLACK;

impl Bucket {
    /// The bucket of a limit.
    pub(super) fn new(tokens: Tokens, cost: &Cost) -> Self {
        // A token is what one request takes, or a unit it is charged with.
        let (units, is_charged) = match cost {
            Cost::Fixed(units) => (units.get(), false),
            Cost::Charged(_) => (1, true),
        };
        match tokens {
            Tokens::Rate(rate) => {
                let (time, burst) = (rate.time_for(units), rate.burst());
                let (interval, per, capacity) = match is_charged {
                    true => (rate.period().nanos(), rate.amount().into(), rate.time_for(burst)),
                    false => {
                        (time, 1, time * u64::from(burst / units) + rate.time_for(burst % units))
                    }
                };
                Self { interval, per, capacity, refill: Refill::Steady, is_charged }
            }
            Tokens::Quota(quota) => {
                let refill = Refill::Calendar(quota.calendar());
                Self {
                    interval: units.into(),
                    per: 1,
                    capacity: quota.amount(),
                    refill,
                    is_charged,
                }
            }
        }
    }

    #[cfg(test)]
    /// One that holds so many tokens, each of which takes an interval.
    pub(super) fn steady(interval: u64, tokens: u64) -> Self {
        let (capacity, refill) = (interval * tokens, Refill::Steady);
        Self { interval, per: 1, capacity, refill, is_charged: false }
    }

    /// One node's share of the bucket; a token at least, or nothing would ever pass.
    pub(super) fn share(self, nodes: u64) -> Self {
        let (nodes, tokens) = (nodes.max(1), self.tokens());
        let share = (tokens / nodes).max(1);
        match self.refill {
            Refill::Steady => {
                let slower = Self { interval: self.interval * nodes, ..self };
                Self { capacity: slower.room(share), ..slower }
            }
            Refill::Calendar(_) => Self { capacity: self.room(share), ..self },
        }
    }

    /// How much of a share is taken if so much is of the whole. That of a rate takes as long to be
    /// full as the whole, or not quite: of a bucket of eight tokens, three nodes have two each.
    pub(super) fn share_taken(self, taken: u64, nodes: u64) -> u64 {
        match self.refill {
            Refill::Steady => {
                let less = self.capacity.saturating_sub(self.share(nodes).capacity);
                taken.saturating_sub(less)
            }
            Refill::Calendar(_) => taken.div_ceil(nodes.max(1)),
        }
    }

    /// The most room that can be taken: what there is, and a debt beyond it where requests are charged
    /// when they are over. What is beyond that is forgiven. What was used of a quota is not, also where
    /// it is lowered: it may be raised again.
    pub(super) fn most(self) -> u64 {
        match self.refill {
            Refill::Steady if self.is_charged => self.capacity + DEBT,
            Refill::Steady => self.capacity,
            Refill::Calendar(_) => (1 << Moment::QUOTA_BITS) - 1,
        }
    }

    /// Tokens it holds when it is full.
    pub(super) fn tokens(self) -> u64 {
        self.tokens_in(self.capacity)
    }

    /// The room so many tokens take, rounded up.
    pub(super) fn room(self, tokens: u64) -> u64 {
        if self.per == 1 {
            return tokens.saturating_mul(self.interval);
        }
        let room = u128::from(tokens) * u128::from(self.interval);
        u64::try_from(room.div_ceil(self.per.into())).unwrap_or(u64::MAX)
    }

    /// The tokens there is room for.
    pub(super) fn tokens_in(self, room: u64) -> u64 {
        if self.per == 1 {
            return room / self.interval;
        }
        let tokens = u128::from(room) * u128::from(self.per) / u128::from(self.interval);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }

    /// Where it stands at a moment. More than the most can't be taken: a limit that was changed must not
    /// lock anyone out. What another refill had to make up for says nothing.
    pub(super) fn level(self, tat: u64, now: Moment) -> Level {
        let tat = if Moment::refill_of(tat) == self.refill { tat } else { 0 };
        let tat = self.forgive(tat, now).unwrap_or(tat);
        self.level_of(tat.saturating_sub(now.at), now.ends_in)
    }

    /// The TAT to go on from, where one says that far more is taken than can be. Who goes on from the
    /// other would find as much taken ever again.
    pub(super) fn forgive(self, tat: u64, now: Moment) -> Option<u64> {
        let most = now.at + self.most();
        let is_of_it = self.refill == Refill::Steady && Moment::refill_of(tat) == self.refill;
        (is_of_it && tat > most + SKEW).then_some(most)
    }

    /// Where it stands when so much is taken.
    pub(super) fn level_of(self, taken: u64, ends_in: Option<u64>) -> Level {
        let resets_in = match ends_in {
            Some(_) if taken == 0 => 0,
            Some(ends_in) => ends_in,
            None => taken,
        };
        Level { taken, resets_in }
    }

    /// The room taken after one more request; `None`: it is refused.
    pub(super) fn take(self, taken: u64) -> Option<u64> {
        let next = taken + self.room(1);
        let after = if self.is_charged { taken } else { next };
        (next <= self.capacity).then_some(after)
    }

    /// The room taken after so many tokens more.
    pub(super) fn charge(self, taken: u64, tokens: u64) -> u64 {
        taken.saturating_add(self.room(tokens)).min(self.most())
    }

    /// Tokens that are in it.
    pub(super) fn free(self, taken: u64) -> u64 {
        self.tokens_in(self.capacity.saturating_sub(taken))
    }

    /// How long until a request would be admitted.
    pub(super) fn wait(self, level: Level) -> Duration {
        Duration::from_nanos(self.wait_nanos(level))
    }

    /// The same in nanoseconds.
    pub(super) fn wait_nanos(self, level: Level) -> u64 {
        match self.refill {
            Refill::Steady => (level.taken + self.room(1)).saturating_sub(self.capacity),
            Refill::Calendar(_) if self.free(level.taken) > 0 => 0,
            Refill::Calendar(_) => level.resets_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use fastgate::model::{Charge, Period, Quota, Rate};
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MINUTE: u64 = 60 * SECOND;

    fn bucket(amount: i64, period: Period, burst: Option<i64>) -> Bucket {
        Bucket::new(Tokens::Rate(Rate::parse(amount, period, burst).expect("a rate")), &Cost::ONE)
    }

    fn quota(amount: i64) -> Bucket {
        Bucket::new(
            Tokens::Quota(Quota::parse(amount, Calendar::Day).expect("a quota")),
            &Cost::ONE,
        )
    }

    fn at(at: u64) -> Moment {
        Moment { at, ends_in: None }
    }

    /// How many of a hundred requests are admitted at a moment.
    fn admitted(bucket: Bucket, tat: &mut u64, now: Moment) -> usize {
        let mut admit = |_: &i32| {
            let next = bucket.take(bucket.level(*tat, now).taken);
            *tat = next.map_or(*tat, |taken| now.at + taken);
            next.is_some()
        };
        (0..100).filter(|request| admit(request)).count()
    }

    #[test]
    fn a_limit_admits_its_burst_at_once_then_its_refill() {
        for (rate, burst, second) in [
            (bucket(60, Period::Minute, None), 60, 1),
            (bucket(60, Period::Minute, Some(5)), 5, 1),
            (bucket(10, Period::Second, Some(20)), 20, 10),
            (bucket(3600, Period::Hour, Some(1)), 1, 1),
        ] {
            let (mut tat, start) = (0, MINUTE);
            assert_eq!(admitted(rate, &mut tat, at(start)), burst, "{rate:?}");
            assert_eq!(admitted(rate, &mut tat, at(start + SECOND)), second, "{rate:?}");
            assert_eq!(admitted(rate, &mut tat, at(start + SECOND)), 0, "{rate:?}");
            assert_eq!(admitted(rate, &mut tat, at(start + 2 * MINUTE)), burst, "{rate:?}");
        }
    }

    #[test]
    fn a_quota_is_there_again_with_the_next_day_and_not_before() {
        let (bucket, mut tat) = (quota(60), 0);
        let day = |number, ends_in| Moment::of_period(Calendar::Day, number, ends_in);
        assert_eq!(admitted(bucket, &mut tat, day(7, MINUTE)), 60);
        assert_eq!(admitted(bucket, &mut tat, day(7, 1)), 0);
        assert_eq!(bucket.wait(bucket.level(tat, day(7, MINUTE))).as_secs(), 60);
        assert_eq!(admitted(bucket, &mut tat, day(8, MINUTE)), 60);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_a_full_bucket_takes() {
        let bucket = bucket(7, Period::Minute, None);
        let level = bucket.level(u64::MAX >> 2, at(0));
        assert_eq!((level.taken, bucket.wait_nanos(level)), (bucket.capacity, bucket.interval));
    }

    #[test]
    fn a_rate_knows_nothing_of_what_was_used_of_a_quota_nor_the_other_way_round() {
        let month = Moment::of_period(Calendar::Month, 700, MINUTE);
        let (rate, quota) = (bucket(7, Period::Minute, None), quota(7));
        assert_eq!(rate.level(month.at + 7, at(1)).taken, 0);
        assert_eq!(quota.level(month.at + 7, Moment::of_period(Calendar::Day, 7, 1)).taken, 0);
        assert_eq!(quota.level(MINUTE, Moment::of_period(Calendar::Day, 7, 1)).taken, 0);
    }

    #[test]
    fn shares_add_up_to_no_more_than_the_limit_but_one_token_each() {
        for bucket in [bucket(100, Period::Minute, None), quota(100)] {
            for (nodes, tokens) in [(0, 100), (1, 100), (3, 33), (100, 1), (1000, 1)] {
                let share = bucket.share(nodes);
                assert_eq!(share.tokens(), tokens, "{nodes}");
                if bucket.refill == Refill::Steady {
                    assert_eq!(share.interval, bucket.interval * nodes.max(1), "{nodes}");
                }
            }
        }
    }

    #[test]
    fn whoever_is_charged_more_than_there_is_waits_until_it_is_paid() {
        let charge = |bucket: Bucket| Bucket { is_charged: true, ..bucket };
        let charged = charge(bucket(60, Period::Minute, None));
        let after = charged.charge(0, 150);
        assert_eq!(after, 150 * SECOND);
        assert!(charged.take(after).is_none());
        assert_eq!(charged.wait_nanos(charged.level_of(after, None)), 91 * SECOND);
        let paid = charged.level(MINUTE + after, at(MINUTE + 91 * SECOND)).taken;
        assert!(charged.take(paid).is_some());
        assert_eq!(charged.charge(after, u64::MAX), MINUTE + DEBT, "a day at most");
        assert_eq!(bucket(60, Period::Minute, None).charge(0, 150), MINUTE, "of others none is");
        assert_eq!(quota(60).charge(0, 150), 150);
    }

    /// An answer of many bytes takes as long to be paid as it should, however little a byte takes.
    #[test]
    fn nothing_of_a_fast_rate_is_rounded_away() {
        for amount in [600_000_000, 150_000_000, 40_000_000, 999_999_999, 1_000_000_000, 7] {
            for (period, nanos) in [(Period::Second, SECOND), (Period::Minute, MINUTE)] {
                let tokens = Tokens::Rate(Rate::parse(amount, period, None).expect("a rate"));
                let charged = Bucket::new(tokens, &Cost::Charged(Charge::ResponseBytes));
                let (amount, case) = (amount as u64, format!("{amount} in {nanos} ns"));
                assert_eq!(charged.charge(0, 10 * amount), 10 * nanos, "{case}");
                assert_eq!((charged.tokens(), charged.free(0)), (amount, amount), "{case}");
                assert_eq!(charged.free(nanos / 2), amount / 2, "{case}");
                assert_eq!(charged.share(3).tokens(), amount / 3, "{case}");

                let million = NonZeroU32::new(1_000_000).expect("some");
                let dear = Bucket::new(tokens, &Cost::Fixed(million.min(rate_of(tokens))));
                let (mut tat, start) = (0, MINUTE);
                let at_once = admitted(dear, &mut tat, at(start)) as u64;
                assert_eq!(at_once, dear.tokens().min(100), "{case}");
                let units = u64::from(million.get()).min(amount);
                assert_eq!(dear.tokens(), amount / units, "{case}");
                let loss = dear.interval as f64 / (units as f64 / amount as f64 * nanos as f64);
                assert!((1.0..1.000_001).contains(&loss), "{case}: {loss}");
            }
        }
    }

    fn rate_of(tokens: Tokens) -> NonZeroU32 {
        let Tokens::Rate(rate) = tokens else { panic!("a quota") };
        NonZeroU32::new(rate.amount()).expect("some")
    }

    fn buckets() -> impl Strategy<Value = Bucket> {
        let period = prop_oneof![Just(Period::Second), Just(Period::Minute), Just(Period::Hour)];
        let number = || prop_oneof![1_i64..200, 1_i64..=1_000_000_000];
        (number(), period, prop::option::of(number())).prop_filter_map(
            "a burst longer than a day",
            |(amount, period, burst)| {
                Rate::parse(amount, period, burst)
                    .ok()
                    .map(|rate| Bucket::new(Tokens::Rate(rate), &Cost::ONE))
            },
        )
    }

    proptest! {
        /// The promise of a limit, over every window and not only from the start.
        #[test]
        fn no_window_admits_more_than_burst_and_refill(
            bucket in buckets(),
            gaps in prop::collection::vec(
                prop_oneof![Just(0_u64), 0..SECOND, 0..2 * MINUTE], 1..300),
        ) {
            let (mut now, mut tat, mut admitted) = (0, 0, Vec::new());
            for gap in gaps {
                now += gap;
                if let Some(taken) = bucket.take(bucket.level(tat, at(now)).taken) {
                    tat = now + taken;
                    admitted.push(now);
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u64;
                    let bound = bucket.tokens() + (to - from) / bucket.interval;
                    prop_assert!(count <= bound, "{count} in {} ns", to - from);
                }
            }
        }

        /// The other half of the promise: nobody is refused who waited as told.
        #[test]
        fn whoever_waits_as_told_is_admitted(bucket in buckets(), taken: u64) {
            let taken = taken.min(bucket.capacity);
            let wait = bucket.wait_nanos(bucket.level_of(taken, None));
            prop_assert!(bucket.take(taken.saturating_sub(wait)).is_some());
            if wait > 0 {
                prop_assert!(bucket.take(taken - wait + 1).is_none());
            }
        }
    }
}
