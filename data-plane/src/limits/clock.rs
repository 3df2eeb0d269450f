//! The time limits count in.

use std::time::Instant;

/// Nanoseconds since the process began: no clock that is set can turn it back. It never says 0,
/// which stands for "never".
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub(super) fn now(self) -> u64 {
        // Enough for 584 years.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX - 1).max(1)
    }
}
