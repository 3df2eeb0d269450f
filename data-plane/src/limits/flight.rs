//! One call to Redis under way.
//!
//! Nobody owns its answer: each of the buckets asked takes its part when it is next looked at, and
//! every request that waits for one of them is woken. So a client that goes away in the middle spoils
//! nothing for the others.

use std::{pin::pin, sync::OnceLock};

use tokio::sync::Notify;

use super::{
    ask::{Ask, Grant},
    policy::Each,
};

/// A call: what is asked, and what will be answered. Usually for tokens, of each bucket.
pub(super) struct Flight<Q = Each<Ask>, A = Each<Grant>> {
    /// What is asked.
    pub(super) asks: Q,
    /// Number of the connection it goes over.
    pub(super) epoch: u32,
    /// When it was sent.
    pub(super) sent: u64,
    /// `Some(None)`: there will be none.
    answer: OnceLock<Option<Landing<A>>>,
    told: Notify,
}

/// What came of a call.
pub(super) struct Landing<A = Each<Grant>> {
    /// When the answer was there.
    pub(super) at: u64,
    /// What was given.
    pub(super) grants: A,
}

impl<Q, A> Flight<Q, A> {
    /// A call that is about to be sent.
    pub(super) fn new(asks: Q, epoch: u32, sent: u64) -> Self {
        Self { asks, epoch, sent, answer: OnceLock::new(), told: Notify::new() }
    }

    /// Ends it.
    pub(super) fn land(&self, landing: Option<Landing<A>>) {
        // It lands once.
        drop(self.answer.set(landing));
        self.told.notify_waiters();
    }

    /// What came of it; `None`: it is under way.
    pub(super) fn answer(&self) -> Option<Option<&Landing<A>>> {
        self.answer.get().map(Option::as_ref)
    }

    /// Waits for its end. False: without an answer.
    pub(super) async fn landed(&self) -> bool {
        let mut told = pin!(self.told.notified());
        told.as_mut().enable();
        if self.answer().is_none() {
            told.await;
        }
        self.answer().is_some_and(|answer| answer.is_some())
    }
}
