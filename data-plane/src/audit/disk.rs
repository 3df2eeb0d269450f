//! Batches to the disk, and what is to be done where it takes none: the gate is shut, the log says
//! why, and it is tried again.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    alarm::Alarm,
    batch::Sealed,
    ledger::Totals,
    outlet::Kind,
    ring::Gate,
    spool::{Place, Reserve, Spool, Unwritten},
    tally::{self, Counts},
};
use crate::identity::Identity;

/// The least room for requests under way, where the limit is not smaller still.
const ROOM_UNDER_WAY: u64 = 1 << 20;

/// How long until a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where batches are kept until they are stored.
#[derive(Clone, Debug)]
pub(crate) struct SpoolSettings {
    /// A directory that this process has for itself; made if need be.
    pub(crate) dir: PathBuf,
    /// The most bytes its files may take.
    pub(crate) limit: u64,
    /// What becomes of requests that come while it is full.
    pub(crate) when_full: WhenFull,
}

/// What becomes of requests whose events can't be kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// They are refused: nothing is forwarded that is not recorded.
    #[default]
    Block,
    /// They are served, and their events lost and counted.
    Drop,
}

/// What is on the disk before the first request: room for when it is full, and the counts of workers.
pub(super) struct Prepared {
    settings: SpoolSettings,
    boot: Uuid,
    counts: Arc<[&'static Counts]>,
    /// Whether the next start will find them, or never can on this disk.
    is_counted: bool,
    reserve: Reserve,
    /// Shut while nothing can be recorded; `None`: what does not fit is dropped.
    gate: Option<Arc<Gate>>,
}

impl Prepared {
    /// Where the disk has no room for it the gate is shut from the start.
    pub(super) fn new(
        settings: SpoolSettings,
        identity: &Identity,
        counts: Arc<[&'static Counts]>,
    ) -> Self {
        let (dir, boot) = (&settings.dir, identity.boot_id);
        let mut reserve = Reserve::new(dir, settings.limit);
        let gate = (settings.when_full == WhenFull::Block).then(Arc::<Gate>::default);
        // Why it can't be held the log is told when it is tried again.
        let is_shut = reserve.hold().is_err();
        gate.iter().for_each(|gate| gate.set_shut(is_shut));
        let counted = tally::keep_in(dir, boot, &counts).err();
        counted.iter().for_each(|fault| tell_uncounted(&settings, fault));
        let is_counted = counted.is_none_or(|fault| is_for_good(&fault));
        Self { is_counted, settings, boot, counts, reserve, gate }
    }

    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.clone()
    }
}

/// A spool and what goes with it, for one thread.
pub(super) struct Disk {
    pub(super) spool: Spool,
    boot: Uuid,
    settings: SpoolSettings,
    counts: Arc<[&'static Counts]>,
    is_counted: bool,
    gate: Option<Arc<Gate>>,
    alarm: Alarm,
    /// No batch is written before, as one failed.
    write_at: Option<Instant>,
    /// The same of all else.
    prepare_at: Option<Instant>,
}

impl Disk {
    /// Opens the spool for these outlets.
    pub(super) fn open(prepared: Prepared, identity: &Arc<Identity>, outlets: &[Kind]) -> Self {
        let Prepared { settings, boot, counts, is_counted, reserve, gate } = prepared;
        let becomes = match settings.when_full {
            WhenFull::Block => "requests are refused until it does",
            WhenFull::Drop => "they are dropped until it does",
        };
        let spool = Spool::open(settings.dir.clone(), identity, settings.limit, outlets);
        Self {
            spool: spool.with_reserve(reserve),
            boot,
            alarm: Alarm::new(becomes),
            settings,
            counts,
            is_counted,
            gate,
            write_at: None,
            prepare_at: None,
        }
    }

    /// Writes a batch; `None`: there is no room for it, or it was tried a moment ago.
    pub(super) fn write(&mut self, batch: &Sealed, now: Instant) -> Option<Place> {
        if self.write_at.is_some_and(|at| now < at) {
            return None;
        }
        let written = self.spool.append(batch);
        self.write_at = None;
        match written {
            Ok(place) => Some(place),
            Err(Unwritten::Full) => None,
            Err(Unwritten::Disk(fault)) => {
                self.alarm.tell(&fault, now);
                self.write_at = Some(now + RETRY);
                None
            }
        }
    }

    /// Does what is to be done besides, and says whether requests may come. A batch that found no
    /// room waits in memory, or none does.
    pub(super) fn look_after(&mut self, is_batch_waiting: bool, totals: &Totals, now: Instant) {
        self.spool.sync_closed(now);
        self.prepare(now);
        let Self { spool, gate, alarm, .. } = self;
        let most_before_it_shuts = spool.limit() - room_under_way(spool.limit());
        if spool.bytes() > most_before_it_shuts {
            // A single segment, as large as a batch may be, would wait for the next batch for ever.
            spool.close_if_stored();
        }
        let (most, is_full) = match gate {
            Some(_) => {
                let has_room = spool.bytes() <= most_before_it_shuts && spool.has_reserve();
                (most_before_it_shuts, is_batch_waiting || !has_room)
            }
            None => (spool.limit(), is_batch_waiting),
        };
        // The log says why before a request is refused.
        alarm.look(spool.bytes(), most, is_full, now);
        if let Some(gate) = gate {
            gate.set_shut(is_full);
            totals.is_shut.store(is_full, Relaxed);
        }
        totals.spool_bytes.store(spool.bytes(), Relaxed);
        totals.is_full.store(is_full, Relaxed);
    }

    /// Makes up for what the disk had no room for: at the start, or since it was full.
    fn prepare(&mut self, now: Instant) {
        self.counts.iter().for_each(|counts| counts.settle());
        let is_prepared = self.is_counted && self.spool.has_reserve();
        if is_prepared || self.prepare_at.is_some_and(|at| now < at) {
            return;
        }
        let prepared = self.spool.hold_reserve().and_then(|()| self.count_on_disk());
        self.prepare_at = prepared.is_err().then(|| now + RETRY);
        if let Err(fault) = prepared {
            self.alarm.tell(&fault, now);
        }
    }

    fn count_on_disk(&mut self) -> io::Result<()> {
        if !self.is_counted {
            match tally::keep_in(&self.settings.dir, self.boot, &self.counts) {
                Ok(()) => tracing::info!(
                    "a kill of this process will lose no audit events uncounted any more"
                ),
                Err(fault) if is_for_good(&fault) => tell_uncounted(&self.settings, &fault),
                Err(fault) => return Err(fault),
            }
            self.is_counted = true;
        }
        Ok(())
    }
}

/// Bytes of a spool of this limit that are for requests under way when it counts as full: what has come by the time
/// that is seen. A sixteenth of a small one is less than a busy node records until then.
fn room_under_way(limit: u64) -> u64 {
    (limit / 16).max(ROOM_UNDER_WAY.min(limit / 2))
}

/// Whether it is no use to try again to count on the disk.
fn is_for_good(fault: &io::Error) -> bool {
    fault.kind() == io::ErrorKind::Unsupported
}

fn tell_uncounted(settings: &SpoolSettings, fault: &io::Error) {
    let dir = settings.dir.display();
    tracing::warn!(%dir, %fault, "a kill of this process will lose audit events uncounted");
}
