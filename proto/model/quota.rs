//! Quotas: so many in a day or month, which begin anew with the next.

use std::{num::NonZeroU64, ops::Range};

use jiff::{
    SignedDuration, ToSpan as _,
    civil::{Date, DateTime},
};

use super::bounds;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// An amount for each day or month of UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quota {
    amount: NonZeroU64,
    calendar: Calendar,
}

/// When a quota begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Calendar {
    /// At midnight.
    Day,
    /// At midnight before the first day of a month.
    Month,
}

impl Quota {
    /// Reads a quota.
    ///
    /// # Errors
    /// What is wrong with the amount and how to mend it.
    pub fn parse(amount: i64, calendar: Calendar) -> Result<Self, String> {
        u64::try_from(amount)
            .ok()
            .filter(|_| amount <= bounds::QUOTA)
            .and_then(NonZeroU64::new)
            .map(|amount| Self { amount, calendar })
            .ok_or_else(|| format!("is {amount}: give units a period, from 1 to {}", bounds::QUOTA))
    }

    /// Units a period.
    #[must_use]
    pub const fn amount(self) -> u64 {
        self.amount.get()
    }

    /// When it begins anew.
    #[must_use]
    pub const fn calendar(self) -> Calendar {
        self.calendar
    }
}

impl Calendar {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// How long a period is at most, as clients are told.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Day => 86_400,
            Self::Month => 31 * 86_400,
        }
    }

    /// The period a second since 1970 is in: its number, counted from 1970, and the seconds it begins
    /// and ends at. `None` after the year 9999.
    #[must_use]
    pub fn period(self, unix_seconds: u64) -> Option<(u64, Range<u64>)> {
        let since = SignedDuration::from_secs(i64::try_from(unix_seconds).ok()?);
        let today = EPOCH.checked_add(since).ok()?.date();
        let (begins, length) = match self {
            Self::Day => (today, 1.day()),
            Self::Month => (today.first_of_month(), 1.month()),
        };
        let number = match self {
            Self::Day => unix_seconds / 86_400,
            Self::Month => {
                let years = u64::try_from(today.year() - EPOCH.year()).ok()?;
                years * 12 + u64::try_from(today.month() - 1).ok()?
            }
        };
        let midnight = |date: Date| date.at(0, 0, 0, 0).duration_since(EPOCH).as_secs();
        let ends = begins.checked_add(length).ok()?;
        let begins = u64::try_from(midnight(begins)).ok()?;
        Some((number, begins..u64::try_from(midnight(ends)).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_midnight_and_with_the_first_of_a_month() {
        // Taken from `date -u -d @N`.
        for (second, day, day_ends, month, month_ends) in [
            (0, 0, 86_400, 0, 2_678_400),
            (86_399, 0, 86_400, 0, 2_678_400),
            (86_400, 1, 172_800, 0, 2_678_400),
            // 2024-02-29T23:59:59Z and the second after it.
            (1_709_251_199, 19_782, 1_709_251_200, 649, 1_709_251_200),
            (1_709_251_200, 19_783, 1_709_337_600, 650, 1_711_929_600),
            // 2026-11-24T12:00:00Z.
            (1_795_521_600, 20_781, 1_795_564_800, 682, 1_796_083_200),
            // 2100-02-28T12:00:00Z: no leap year.
            (4_107_499_200, 47_540, 4_107_542_400, 1561, 4_107_542_400),
        ] {
            let ends = |calendar: Calendar| {
                calendar.period(second).map(|(number, seconds)| (number, seconds.end))
            };
            assert_eq!(ends(Calendar::Day), Some((day, day_ends)), "{second}");
            assert_eq!(ends(Calendar::Month), Some((month, month_ends)), "{second}");
        }
    }

    #[test]
    fn months_follow_each_other_without_a_gap() {
        let mut second = 0;
        for number in 0..12 * 500 {
            let (month, seconds) = Calendar::Month.period(second).expect("a month");
            assert_eq!((month, seconds.start), (number, second));
            assert_eq!(Calendar::Month.period(seconds.end - 1), Some((month, seconds.clone())));
            second = seconds.end;
        }
    }

    #[test]
    fn a_bad_amount_is_told_with_its_mend() {
        for wrong in [0, -1, bounds::QUOTA + 1, i64::MAX] {
            let fault = Quota::parse(wrong, Calendar::Day).expect_err("a fault");
            assert_eq!(fault, format!("is {wrong}: give units a period, from 1 to 1000000000000"));
        }
        assert_eq!(
            Quota::parse(bounds::QUOTA, Calendar::Month).map(Quota::amount),
            Ok(1_000_000_000_000)
        );
    }
}
