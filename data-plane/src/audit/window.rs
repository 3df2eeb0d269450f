//! The batches under way to the control plane, in bounded memory: those sent and not acknowledged
//! yet, and the next ones to be sent.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::{
    batch::{Gap, Sealed},
    spool::Place,
};

/// Batches in order, those at the front sent and not yet acknowledged.
///
/// The collector puts in at the back, on its own thread; the sender moves `sent` along and takes
/// acknowledged ones out at the front. Neither holds the lock for more than that.
#[derive(Default)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Entry>,
    bytes: usize,
    /// How many batches, from the front, were sent over the current stream.
    sent: usize,
    /// Since when the front one has been waited for.
    waiting_since: Option<Instant>,
    /// The boot of the last batch that was acknowledged, and the place behind it.
    stored: Option<(Uuid, Place)>,
    /// What went with batches that gave way, and the next batch has to tell.
    lost: Vec<Gap>,
}

struct Entry {
    batch: Sealed,
    /// Behind it in the spool; `None`: it is in memory alone.
    place: Option<Place>,
}

/// An acknowledgement of a batch that was not sent, or not next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WrongAck;

impl Window {
    /// Whether another batch fits. One that is put in regardless overshoots by its own size.
    pub(super) fn has_room(&self, bound: usize) -> bool {
        self.state().bytes < bound
    }

    /// Whether every batch is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.state().batches.is_empty()
    }

    /// Adds a batch at the end.
    pub(super) fn push(&self, batch: Sealed, place: Option<Place>) {
        let mut state = self.state();
        state.bytes += batch.encoded.len();
        state.batches.push_back(Entry { batch, place });
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

    /// Forgets the oldest batch, which is stored, and returns it.
    pub(super) fn acknowledge(&self, first_seq: u64) -> Result<Sealed, WrongAck> {
        let mut state = self.state();
        if state.sent == 0 || state.batches.front().is_none_or(|e| e.batch.first_seq != first_seq) {
            return Err(WrongAck);
        }
        let Some(entry) = state.batches.pop_front() else { return Err(WrongAck) };
        state.sent -= 1;
        state.waiting_since = (state.sent > 0).then(Instant::now);
        state.bytes -= entry.batch.encoded.len();
        let Entry { batch, place } = entry;
        state.stored = place.map(|place| (batch.boot, place));
        Ok(batch)
    }

    /// The oldest batch, if it is of this number and was sent.
    pub(super) fn oldest_sent(&self, first_seq: u64) -> Option<Sealed> {
        let state = self.state();
        let oldest = state.batches.front().filter(|_| state.sent > 0)?;
        (oldest.batch.first_seq == first_seq).then(|| oldest.batch.clone())
    }

    /// Has a batch sent in the place of the oldest one, which is never sent again.
    pub(super) fn replace_oldest(&self, batch: Sealed) {
        let mut state = self.state();
        let len = batch.encoded.len();
        let Some(oldest) = state.batches.front_mut() else { return };
        let before = std::mem::replace(&mut oldest.batch, batch);
        state.bytes = (state.bytes + len).saturating_sub(before.encoded.len());
    }

    /// Has the next batch tell of these.
    pub(super) fn lose(&self, gaps: Vec<Gap>) {
        self.state().lost.extend(gaps);
    }

    /// What is to be told since this was last asked.
    pub(super) fn newly_lost(&self) -> Vec<Gap> {
        std::mem::take(&mut self.state().lost)
    }

    /// The boot of the last batch acknowledged since this was last asked, and the place behind it.
    pub(super) fn newly_stored(&self) -> Option<(Uuid, Place)> {
        self.state().stored.take()
    }

    fn try_next(&self) -> Option<Sealed> {
        let mut state = self.state();
        let batch = state.batches.get(state.sent)?.batch.clone();
        state.sent += 1;
        state.waiting_since.get_or_insert_with(Instant::now);
        Some(batch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
