//! What became of all events, for whoever asks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{batch::Reason, tally::Counts};

/// What became of the events of this boot: `produced = stored + spooled + dropped`. And what is
/// known of those of earlier ones.
#[derive(Clone)]
pub(crate) struct Ledger {
    counts: Arc<[&'static Counts]>,
    totals: Arc<Totals>,
}

/// What the collector and the sender have to say; the workers have counts of their own.
#[derive(Default)]
pub(super) struct Totals {
    /// Events of this boot that are stored.
    pub(super) stored: AtomicU64,
    /// Events of this boot that the disk can't give back.
    pub(super) damaged: AtomicU64,
    /// Events of earlier boots that wait to be stored.
    pub(super) left: AtomicU64,
    /// Events of earlier boots found to be lost, by reason.
    pub(super) lost: [AtomicU64; Reason::ALL.len()],
    pub(super) spool_bytes: AtomicU64,
    /// 0: there is no spool.
    pub(super) spool_limit: AtomicU64,
    /// 1 while the spool takes no event.
    pub(super) is_full: AtomicU64,
}

impl Ledger {
    pub(super) fn new(counts: Arc<[&'static Counts]>, totals: Arc<Totals>) -> Self {
        Self { counts, totals }
    }

    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.counts.iter().map(|counts| counts.produced()).sum()
    }

    /// Events lost, because there was no room for them or the disk can't give them back.
    pub(crate) fn dropped(&self) -> u64 {
        let dropped: u64 = self.counts.iter().map(|counts| counts.dropped()).sum();
        dropped + self.totals.damaged.load(Relaxed)
    }

    /// Events the control plane has stored.
    pub(crate) fn stored(&self) -> u64 {
        self.totals.stored.load(Relaxed)
    }

    /// Events that wait to be stored.
    pub(crate) fn spooled(&self) -> u64 {
        // Read in this order, the sum never goes below zero by more than what saturation hides.
        let gone = self.stored() + self.dropped();
        self.produced().saturating_sub(gone)
    }

    /// Events of earlier starts that wait to be stored.
    pub(crate) fn left(&self) -> u64 {
        self.totals.left.load(Relaxed)
    }

    /// Events of earlier starts that are lost, with the reason.
    pub(crate) fn lost(&self) -> [(&'static str, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason.name(), self.totals.lost_by(reason).load(Relaxed)))
    }

    /// Bytes the spool takes on disk.
    pub(crate) fn spool_bytes(&self) -> u64 {
        self.totals.spool_bytes.load(Relaxed)
    }

    /// Bytes it may take; 0: there is none.
    pub(crate) fn spool_limit(&self) -> u64 {
        self.totals.spool_limit.load(Relaxed)
    }

    /// Whether it takes no events: it is full, or can't be written.
    pub(crate) fn is_full(&self) -> bool {
        self.totals.is_full.load(Relaxed) > 0
    }
}

impl Totals {
    pub(super) fn lost_by(&self, reason: Reason) -> &AtomicU64 {
        let [dropped, killed, damaged] = &self.lost;
        match reason {
            Reason::Dropped => dropped,
            Reason::Killed => killed,
            Reason::Damaged => damaged,
        }
    }
}
