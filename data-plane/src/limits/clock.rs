//! The time limits count in.

use std::time::{Instant, SystemTime};

use super::gcra::{Moment, Refill};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds since the process began: no clock that is set can turn it back. It never says 0,
/// which stands for "never".
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    /// The same moment, in nanoseconds since 1970. Days and months go by it from then on, so they
    /// never begin twice.
    wall: u64,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::at(u64::try_from(wall.as_nanos()).unwrap_or(0))
    }

    /// One that begins now, for which this is so many nanoseconds since 1970.
    pub(super) fn at(wall: u64) -> Self {
        Self { began: Instant::now(), wall }
    }

    /// The time.
    pub(super) fn now(self) -> u64 {
        // Enough for 584 years.
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1).max(1)
    }

    /// A time of it, as buckets of one kind count it.
    pub(super) fn moment(self, refill: Refill, now: u64) -> Moment {
        let Refill::Calendar(calendar) = refill else { return Moment { at: now, ends_in: None } };
        let wall = self.wall.saturating_add(now);
        let (number, seconds) = calendar.period(wall / NANOS_PER_SECOND).unwrap_or_default();
        let ends_in = (seconds.end * NANOS_PER_SECOND).saturating_sub(wall);
        Moment::of_period(calendar, number, ends_in)
    }
}
