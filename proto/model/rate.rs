//! Rates: so many in a second, a minute or an hour, and so many at once.

use std::num::NonZeroU32;

use super::bounds;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A rate in requests a minute, all of which may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RateLimit(NonZeroU32);

impl RateLimit {
    /// Reads requests a minute.
    ///
    /// # Errors
    /// What is wrong with the number and how to mend it.
    pub fn parse(per_minute: i64) -> Result<Self, String> {
        count(per_minute, "requests a minute").map(Self)
    }

    /// Requests a minute.
    #[must_use]
    pub const fn per_minute(self) -> u32 {
        self.0.get()
    }
}

impl From<RateLimit> for Rate {
    fn from(RateLimit(amount): RateLimit) -> Self {
        Self { amount, period: Period::Minute, burst: amount }
    }
}

/// A bucket of `burst` tokens, refilled at an amount a period.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rate {
    amount: NonZeroU32,
    period: Period,
    burst: NonZeroU32,
}

/// What a rate is told in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Period {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3600 seconds.
    Hour,
}

impl Rate {
    /// The longest a bucket may take to be full again. Where it stands is told in nanoseconds, which
    /// a script in Redis can't count exactly much beyond a hundred days.
    const LONGEST: u64 = 86_400 * NANOS_PER_SECOND;

    /// Reads a rate. Without a burst, all of a period may come at once.
    ///
    /// # Errors
    /// The field that is wrong, what is wrong with it and how to mend it.
    pub fn parse(
        amount: i64,
        period: Period,
        burst: Option<i64>,
    ) -> Result<Self, (&'static str, String)> {
        let amount = count(amount, "units a period").map_err(|fault| ("amount", fault))?;
        let burst = burst.map(|burst| count(burst, "units at once").map_err(|f| ("burst", f)));
        let rate = Self { amount, period, burst: burst.transpose()?.unwrap_or(amount) };
        match rate.capacity() {
            Some(capacity) if capacity <= Self::LONGEST => Ok(rate),
            _ => {
                let most = Self::LONGEST / rate.time_for(1);
                let fault = format!(
                    "is {burst}, which takes more than a day to be refilled: give {most} at most",
                    burst = rate.burst
                );
                Err(("burst", fault))
            }
        }
    }

    /// Units a period.
    #[must_use]
    pub const fn amount(self) -> u32 {
        self.amount.get()
    }

    /// What the amount is for.
    #[must_use]
    pub const fn period(self) -> Period {
        self.period
    }

    /// Units at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst.get()
    }

    /// The nanoseconds so many units take, rounded up: never more than the rate is admitted. Of a fast
    /// rate many units at a time lose the least by that.
    #[must_use]
    pub fn time_for(self, units: u32) -> u64 {
        let nanos = u128::from(self.period.nanos()) * u128::from(units);
        u64::try_from(nanos.div_ceil(self.amount.get().into())).unwrap_or(u64::MAX)
    }

    fn capacity(self) -> Option<u64> {
        self.time_for(1).checked_mul(self.burst.get().into())
    }
}

impl Period {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// How long it is.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    /// The same in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.seconds() as u64 * NANOS_PER_SECOND
    }
}

/// A number of something, within what a limit may be.
pub(super) fn count(number: i64, of: &str) -> Result<NonZeroU32, String> {
    u32::try_from(number)
        .ok()
        .filter(|_| number <= bounds::RATE)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| format!("is {number}: give {of}, from 1 to {}", bounds::RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_interval_and_a_burst() {
        for (amount, period, burst, interval, at_once) in [
            (60, Period::Minute, None, NANOS_PER_SECOND, 60),
            (3, Period::Second, None, 333_333_334, 3),
            (1_000_000_000, Period::Second, None, 1, 1_000_000_000),
            (10, Period::Second, Some(1), 100_000_000, 1),
            (1, Period::Hour, Some(24), 3600 * NANOS_PER_SECOND, 24),
        ] {
            let rate = Rate::parse(amount, period, burst).expect("a rate");
            let told = (rate.time_for(1), rate.burst());
            assert_eq!(told, (interval, at_once), "{amount} {period:?}");
            assert_eq!(rate.time_for(rate.amount()), period.nanos(), "{amount} {period:?}");
        }
        let rate = Rate::from(RateLimit::parse(100).expect("a rate"));
        assert_eq!((rate.amount(), rate.period(), rate.burst()), (100, Period::Minute, 100));
    }

    #[test]
    fn a_burst_is_bounded_by_the_time_it_takes_to_be_refilled() {
        let told = |amount, period, burst| Rate::parse(amount, period, burst).expect_err("a fault");
        let (field, fault) = told(1, Period::Hour, Some(25));
        let mend = "which takes more than a day to be refilled: give 24 at most";
        assert_eq!((field, fault), ("burst", format!("is 25, {mend}")));
        // As many nanoseconds as no u64 holds.
        let (field, fault) = told(1, Period::Hour, Some(1_000_000_000));
        assert_eq!((field, fault), ("burst", format!("is 1000000000, {mend}")));
        for wrong in [0, -1, 1_000_000_001, i64::MAX, i64::MIN] {
            let mend = "from 1 to 1000000000";
            let fault = ("amount", format!("is {wrong}: give units a period, {mend}"));
            assert_eq!(told(wrong, Period::Second, None), fault);
            let fault = ("burst", format!("is {wrong}: give units at once, {mend}"));
            assert_eq!(told(1, Period::Second, Some(wrong)), fault);
        }
    }
}
