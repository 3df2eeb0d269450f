//! What became of all events, for whoever asks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::{
    batch::Reason,
    outlet::{Kind, Outlet},
    tally::Counts,
};

/// What became of the events of this boot: `produced = stored + spooled + dropped`. And what is
/// known of those of earlier ones.
#[derive(Clone)]
pub(crate) struct Ledger {
    counts: Arc<[&'static Counts]>,
    totals: Arc<Totals>,
    outlets: Arc<[Arc<Outlet>]>,
}

/// What a sink has to say of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SinkState {
    pub(crate) name: &'static str,
    /// Events it has not acknowledged yet.
    pub(crate) waiting: u64,
    /// Events it has taken.
    pub(crate) taken: u64,
    /// Events it will never take.
    pub(crate) refused: u64,
    /// Events the disk could not give back when it was to get them.
    pub(crate) damaged: u64,
    /// Tries that failed.
    pub(crate) errors: u64,
    /// Whether the last try failed.
    pub(crate) is_away: bool,
}

/// What the collector and the sender have to say; the workers have counts of their own.
#[derive(Default)]
pub(super) struct Totals {
    /// Events of this boot that the disk can't give back.
    pub(super) damaged: AtomicU64,
    /// Events of this boot whose batches the control plane refused for good.
    pub(super) refused: AtomicU64,
    /// Events of earlier boots found to be lost, by reason.
    pub(super) lost: [AtomicU64; Reason::ALL.len()],
    /// Tails that are served.
    pub(super) tails: AtomicU64,
    /// Events sent to those who watch the log as it grows.
    pub(super) tailed: AtomicU64,
    pub(super) spool_bytes: AtomicU64,
    /// 0: there is no spool.
    pub(super) spool_limit: AtomicU64,
    pub(super) is_full: AtomicBool,
    /// Whether requests are refused for that.
    pub(super) is_shut: AtomicBool,
}

impl Ledger {
    pub(super) fn new(
        counts: Arc<[&'static Counts]>,
        totals: Arc<Totals>,
        outlets: Arc<[Arc<Outlet>]>,
    ) -> Self {
        Self { counts, totals, outlets }
    }

    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.counts.iter().map(|counts| counts.produced()).sum()
    }

    /// Events lost: there was no room for them, the disk can't give them back, or the control plane
    /// refused them for good.
    pub(crate) fn dropped(&self) -> u64 {
        self.without_room() + self.totals.damaged.load(Relaxed) + self.refused()
    }

    /// Those of them that the control plane refused.
    pub(crate) fn refused(&self) -> u64 {
        self.totals.refused.load(Relaxed)
    }

    /// Events the control plane has stored. Where it gets none, those that all sinks have.
    pub(crate) fn stored(&self) -> u64 {
        let of_record = self.of_record().map(|outlet| outlet.stored.load(Relaxed));
        of_record.min().unwrap_or(0)
    }

    /// Events that wait to be stored.
    pub(crate) fn spooled(&self) -> u64 {
        // Read in this order, the sum never goes below zero by more than what saturation hides.
        let gone = self.stored() + self.dropped();
        self.produced().saturating_sub(gone)
    }

    /// Events of earlier starts that wait to be stored.
    pub(crate) fn left(&self) -> u64 {
        self.of_record().map(|outlet| outlet.left.load(Relaxed)).max().unwrap_or(0)
    }

    /// What there is to say of each sink.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = SinkState> {
        let sinks = self.outlets.iter().filter(|outlet| outlet.kind != Kind::ControlPlane);
        sinks.map(|outlet| {
            let of = |count: &AtomicU64| count.load(Relaxed);
            // In this order, as above.
            let gone = of(&outlet.stored) + of(&outlet.damaged) + self.without_room();
            SinkState {
                name: outlet.kind.name(),
                waiting: self.produced().saturating_sub(gone) + of(&outlet.left),
                taken: of(&outlet.taken),
                refused: of(&outlet.refused),
                damaged: of(&outlet.damaged),
                errors: of(&outlet.errors),
                is_away: outlet.is_away.load(Relaxed),
            }
        })
    }

    /// Those whose events are stored: the control plane, or else all sinks.
    fn of_record(&self) -> impl Iterator<Item = &Outlet> {
        let is_stored = self.outlets.iter().any(|outlet| outlet.kind == Kind::ControlPlane);
        let counts = move |outlet: &&Arc<Outlet>| !is_stored || outlet.kind == Kind::ControlPlane;
        self.outlets.iter().filter(counts).map(|outlet| &**outlet)
    }

    fn without_room(&self) -> u64 {
        self.counts.iter().map(|counts| counts.dropped()).sum()
    }

    /// Events of earlier starts that are lost, with the reason.
    pub(crate) fn lost(&self) -> [(&'static str, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason.name(), self.totals.lost_by(reason).load(Relaxed)))
    }

    /// Tails that are served.
    pub(crate) fn tails(&self) -> u64 {
        self.totals.tails.load(Relaxed)
    }

    /// Events sent to those who watch the log as it grows.
    pub(crate) fn tailed(&self) -> u64 {
        self.totals.tailed.load(Relaxed)
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
        self.totals.is_full.load(Relaxed)
    }

    /// Whether requests are refused for that.
    pub(crate) fn is_shut(&self) -> bool {
        self.totals.is_shut.load(Relaxed)
    }
}

impl Totals {
    pub(super) fn lost_by(&self, reason: Reason) -> &AtomicU64 {
        let [dropped, killed, damaged, refused] = &self.lost;
        match reason {
            Reason::Dropped => dropped,
            Reason::Killed => killed,
            Reason::Damaged => damaged,
            Reason::Refused => refused,
        }
    }
}
