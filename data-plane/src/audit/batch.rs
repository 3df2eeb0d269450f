//! Collects the events of all rings into batches, each encoded once for as often as it is sent.

use std::sync::Arc;

use bytes::Bytes;

use super::{Event, encode::Encoder, ring::Tap};
use crate::identity::Identity;

/// The most events in a batch.
const EVENTS: u64 = 4096;

/// A batch is closed when its events come to this many bytes.
const BYTES: usize = 1 << 20;

/// A batch ready to be sent, and sent again.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sealed {
    /// Events of this boot before it, dropped ones included: names the batch.
    pub(super) first_seq: u64,
    /// How many events it holds.
    pub(super) events: u64,
    /// The encoded `Batch`.
    pub(super) encoded: Bytes,
}

/// Makes batches of what is in the rings.
pub(super) struct Batcher {
    identity: Arc<Identity>,
    taps: Vec<Tap>,
    /// The ring to look into next, so that a busy one does not starve the others.
    turn: usize,
    /// Events of this boot so far, dropped ones included.
    seq: u64,
}

impl Batcher {
    /// Batches the events of one boot.
    pub(super) fn new(identity: Arc<Identity>, taps: Vec<Tap>) -> Self {
        Self { identity, taps, turn: 0, seq: 0 }
    }

    /// The events waiting in the rings, up to a batch of them; `None`: there are none.
    pub(super) fn next(&mut self) -> Option<Sealed> {
        self.seq += self.taps.iter_mut().map(Tap::newly_dropped).sum::<u64>();
        let first_seq = self.seq;
        let identity = self.identity.clone();
        let mut encoder = Encoder::new(&identity, first_seq);
        let mut events = 0;
        while events < EVENTS && encoder.len() < BYTES {
            let Some(event) = self.pop() else { break };
            encoder.push(&event);
            events += 1;
        }
        self.seq += events;
        (events > 0).then(|| Sealed { first_seq, events, encoded: encoder.finish().into() })
    }

    /// Whether nothing more can come: every worker has ended, and its ring is empty.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taps.iter().all(Tap::is_exhausted)
    }

    /// How many events are in the rings.
    pub(super) fn waiting(&self) -> u64 {
        self.taps.iter().map(|tap| tap.len() as u64).sum()
    }

    fn pop(&mut self) -> Option<Event> {
        for _ in 0..self.taps.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.taps.len();
            if let Some(event) = self.taps.get_mut(turn).and_then(Tap::pop) {
                return Some(event);
            }
        }
        None
    }
}
