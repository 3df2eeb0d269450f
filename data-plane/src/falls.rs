//! What panicked: workers tell, and the follower of the config draws its conclusions.
//!
//! A panic ends the task it happens in: mostly a connection, and with it what its client asked for.

use std::thread;

use tokio::sync::mpsc;

/// Panics that wait to be heard of; further ones tell nothing new.
const WAITING: usize = 64;

/// What panicked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fall {
    /// A connection, which was served from config of this revision last.
    Connection(u64),
    /// A worker, and so the process.
    Worker,
}

/// Tells of panics.
#[derive(Clone)]
pub(crate) struct Falls(mpsc::Sender<Fall>);

/// Hears of them.
pub(crate) type Fallen = mpsc::Receiver<Fall>;

/// Tells of them on one side, and hears on the other.
pub(crate) fn falls() -> (Falls, Fallen) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Falls(sender), receiver)
}

impl Falls {
    /// Tells what `of` says if it is dropped by a panic.
    pub(crate) fn guard<F: Fn() -> Fall>(&self, of: F) -> FallGuard<F> {
        FallGuard { falls: self.clone(), of }
    }
}

/// See [`Falls::guard`].
pub(crate) struct FallGuard<F: Fn() -> Fall> {
    falls: Falls,
    of: F,
}

impl<F: Fn() -> Fall> Drop for FallGuard<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            // A queue that is full holds enough of them.
            let _ = self.falls.0.try_send((self.of)());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn only_a_panic_is_told() {
        let (falls, mut fallen) = falls();
        drop(falls.guard(|| Fall::Worker));
        let panics = || {
            let _guard = falls.guard(|| Fall::Connection(7));
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(fallen.try_recv(), Ok(Fall::Connection(7)));
        assert!(fallen.try_recv().is_err());
    }
}
