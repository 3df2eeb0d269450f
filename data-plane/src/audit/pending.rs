//! Batches that the control plane has not stored yet, in bounded memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use super::batch::Sealed;

/// Batches in order, those at the front sent and not yet acknowledged.
///
/// The batcher puts in at the back, the sender moves `sent` along and takes acknowledged ones out
/// at the front; both run in one task, so that the lock is never waited for.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Sealed>,
    bytes: usize,
    /// How many batches, from the front, were sent over the current stream.
    sent: usize,
    /// Since when the front one has been waited for.
    waiting_since: Option<Instant>,
}

/// An acknowledgement of a batch that was not sent, or not next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WrongAck;

impl Pending {
    /// Whether another batch fits. One that is put in regardless overshoots by its own size.
    pub(super) fn has_room(&self, bound: usize) -> bool {
        self.state().bytes < bound
    }

    /// Whether every batch is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.state().batches.is_empty()
    }

    /// Events that wait here.
    pub(super) fn events(&self) -> u64 {
        self.state().batches.iter().map(|batch| batch.events).sum()
    }

    /// Adds a batch at the end.
    pub(super) fn push(&self, batch: Sealed) {
        let mut state = self.state();
        state.bytes += batch.encoded.len();
        state.batches.push_back(batch);
        drop(state);
        self.changed.notify_one();
    }

    /// A new stream: everything is to be sent again.
    pub(super) fn rewind(&self) {
        let mut state = self.state();
        state.sent = 0;
        state.waiting_since = None;
    }

    /// Waits for the next batch to send over the current stream. Nothing is lost when the wait is
    /// given up.
    pub(super) async fn next(&self) -> Sealed {
        loop {
            if let Some(batch) = self.try_next() {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    /// Since when an acknowledgement has been due; `None`: nothing is sent that has none.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.state().waiting_since
    }

    /// Forgets the oldest batch, which is stored; returns how many events were in it.
    pub(super) fn acknowledge(&self, first_seq: u64) -> Result<u64, WrongAck> {
        let mut state = self.state();
        if state.sent == 0 || state.batches.front().is_none_or(|b| b.first_seq != first_seq) {
            return Err(WrongAck);
        }
        let Some(batch) = state.batches.pop_front() else { return Err(WrongAck) };
        state.sent -= 1;
        state.waiting_since = (state.sent > 0).then(Instant::now);
        state.bytes -= batch.encoded.len();
        Ok(batch.events)
    }

    fn try_next(&self) -> Option<Sealed> {
        let mut state = self.state();
        let batch = state.batches.get(state.sent).cloned()?;
        state.sent += 1;
        state.waiting_since.get_or_insert_with(Instant::now);
        Some(batch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
