//! How many requests of a worker wait for the same call.

use std::cell::Cell;

/// The requests that wait for one place's call.
#[derive(Default)]
pub(super) struct Waiters(Cell<u64>);

/// One that waits, for as long as it does.
pub(super) struct Waiting<'a>(&'a Waiters);

impl Waiters {
    /// How many they are.
    pub(super) fn count(&self) -> u64 {
        self.0.get()
    }

    /// One more, until what this gives is dropped.
    pub(super) fn join(&self) -> Waiting<'_> {
        self.0.update(|count| count + 1);
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.update(|count| count.saturating_sub(1));
    }
}
