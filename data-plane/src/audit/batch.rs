//! Collects the events of all rings into batches, each encoded once for as often as it is sent.

use std::sync::Arc;

use bytes::Bytes;
use fastgate::audit::GAPS;
use uuid::Uuid;

use super::{Event, encode::Encoder, ring::Tap, tail::Spotter};
use crate::identity::Identity;

/// The most events in a batch.
const EVENTS: u64 = 4096;

/// A batch is closed when its events come to this many bytes.
const BYTES: usize = 1 << 20;

/// Gaps one batch tells of: where it is refused, that must be told with them.
const TOLD: usize = GAPS - 1;

/// Gaps that wait to be told. There are more only where batches without an environment give way for
/// weeks while events are dropped as well; the oldest go then, and are counted all the same.
const UNTOLD: usize = 10_000;

/// A batch ready to be written and sent, and sent again: it is never changed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sealed {
    /// Whose events it holds.
    pub(super) boot: Uuid,
    /// Events of the boot before it and before those dropped that it is the first to tell of.
    pub(super) from: u64,
    /// Events of the boot before it, dropped ones included: with the boot, names the batch.
    pub(super) first_seq: u64,
    /// How many events it holds.
    pub(super) events: u64,
    /// The encoded `Batch`.
    pub(super) encoded: Bytes,
}

impl Sealed {
    /// Events of the boot up to the last one in it.
    pub(super) fn end(&self) -> u64 {
        self.first_seq + self.events
    }
}

/// Events that were recorded and never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    /// Events of the boot before them.
    pub(super) first_seq: u64,
    pub(super) events: u64,
    pub(super) reason: Reason,
}

/// Why they never come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reason {
    /// There was no room for them.
    Dropped,
    /// They were in memory when the process ended.
    Killed,
    /// What the disk held of them can't be read.
    Damaged,
    /// The control plane will never store their batch.
    Refused,
}

impl Reason {
    pub(super) const ALL: [Self; 4] = [Self::Dropped, Self::Killed, Self::Damaged, Self::Refused];

    /// As the control plane is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Killed => "killed",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Gap {
    pub(super) fn of((first_seq, end): (u64, u64), reason: Reason) -> Self {
        Self { first_seq, events: end.saturating_sub(first_seq), reason }
    }

    /// Events of the boot up to the last one of them.
    fn end(&self) -> u64 {
        self.first_seq.saturating_add(self.events)
    }
}

/// Makes batches of what is in the rings.
pub(super) struct Batcher {
    encoder: Encoder,
    taps: Vec<Tap>,
    /// The ring to look into next, so that a busy one does not starve the others.
    turn: usize,
    /// Events of this boot so far, dropped ones included.
    seq: u64,
    /// Of those, how many are in a batch or told of by one.
    sealed: u64,
    /// What the next batch has to tell.
    gaps: Vec<Gap>,
    /// Shown every event.
    spotter: Option<Spotter>,
}

impl Batcher {
    /// Batches the events of one boot.
    pub(super) fn new(identity: Arc<Identity>, taps: Vec<Tap>) -> Self {
        let encoder = Encoder::new(identity);
        Self { encoder, taps, turn: 0, seq: 0, sealed: 0, gaps: Vec::new(), spotter: None }
    }

    /// Shows every event that is kept to those who watch the log.
    pub(super) fn with_spotter(self, spotter: Spotter) -> Self {
        Self { spotter: Some(spotter), ..self }
    }

    /// The events waiting in the rings, up to a batch of them; `None`: there are none.
    pub(super) fn next(&mut self) -> Option<Sealed> {
        self.see_dropped();
        if let Some(spotter) = &mut self.spotter {
            spotter.refresh();
        }
        let sealed = (self.waiting() > 0).then(|| self.seal());
        if let Some(spotter) = &mut self.spotter {
            spotter.send();
        }
        sealed
    }

    /// What is left to be told when no event will come any more.
    pub(super) fn last(&mut self) -> Option<Sealed> {
        self.see_dropped();
        (!self.gaps.is_empty()).then(|| self.seal())
    }

    /// Notes what the next batch has to tell as lost.
    pub(super) fn lose(&mut self, gap: Gap) {
        match self.gaps.last_mut() {
            Some(last) if last.reason == gap.reason && last.end() == gap.first_seq => {
                last.events += gap.events;
            }
            _ => self.gaps.push(gap),
        }
        if self.gaps.len() > UNTOLD {
            self.gaps.remove(0);
        }
    }

    /// Notes that all batches so far are on disk, and with them what they tell of dropped events.
    pub(super) fn is_written(&self) {
        self.taps.iter().for_each(Tap::tell);
    }

    /// Whether nothing more can come: every worker has ended, and its ring is empty.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taps.iter().all(Tap::is_exhausted)
    }

    /// How many events are in the rings.
    pub(super) fn waiting(&self) -> u64 {
        self.taps.iter().map(|tap| tap.len() as u64).sum()
    }

    fn see_dropped(&mut self) {
        let events = self.taps.iter_mut().map(Tap::newly_dropped).sum::<u64>();
        if events == 0 {
            return;
        }
        let begin = self.seq;
        self.seq += events;
        self.lose(Gap { first_seq: begin, events, reason: Reason::Dropped });
    }

    fn seal(&mut self) -> Sealed {
        let (from, first_seq) = (self.sealed, self.seq);
        self.encoder.begin(first_seq);
        let mut events = 0;
        while events < EVENTS && self.encoder.len() < BYTES {
            let Some(event) = self.pop() else { break };
            self.encoder.push(&event);
            // What is only counted is in no list, and so in no tail.
            if let Some(spotter) = &mut self.spotter
                && !event.is_counted_only
            {
                spotter.look(self.encoder.last());
            }
            events += 1;
        }
        // Those of before the batch come first: its frame counts them as told.
        self.gaps.sort_by_key(|gap| gap.reason);
        let told: Vec<_> = self.gaps.drain(..self.gaps.len().min(TOLD)).collect();
        let encoded = self.encoder.finish(&told);
        self.seq += events;
        self.sealed = self.seq;
        Sealed { boot: self.encoder.identity().boot_id, from, first_seq, events, encoded }
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
