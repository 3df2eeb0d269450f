//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from try to try, each cut by a random part so that nodes that lost the same
/// control plane do not come back all at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    /// Before any failure.
    pub(crate) fn new() -> Self {
        Self::up_to(Self::LONGEST)
    }

    /// The same with no wait longer than that.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST, longest }
    }

    /// After a success: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The wait before the next try: between half and all of the current bound, as `random` says.
    pub(crate) fn wait(&mut self, random: u32) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.longest);
        bound / 2 + (bound / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// A random number; the same one every time where the system has none, which costs only spread.
pub(crate) fn random() -> u32 {
    #[cfg(test)]
    if turmoil::in_simulation() {
        return crate::simulation::random();
    }
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_ten_seconds_within_their_jitter() {
        let mut low = Backoff::new();
        let mut high = Backoff::new();
        for bound in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            assert_eq!(low.wait(0), Duration::from_millis(bound / 2));
            assert_eq!(high.wait(u32::MAX), Duration::from_millis(bound));
        }
        low.reset();
        assert_eq!(low.wait(0), Duration::from_millis(50));
    }
}
