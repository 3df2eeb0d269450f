//! Ships events to the control plane, and keeps each batch until it is stored there.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Uri;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Counts, Recorder,
    batch::Batcher,
    pending::Pending,
    push::push,
    ring::{Tap, ring},
};
use crate::{
    backoff::{Backoff, random},
    identity::Identity,
};

/// How long an event waits for others to fill its batch.
const EVERY: Duration = Duration::from_millis(50);

/// Batches kept for a control plane that is away; what does not fit stays in the rings, and what
/// does not fit there is dropped.
const PENDING_BYTES: usize = 32 << 20;

/// How long a node that ends waits for its last events to be stored.
const FLUSH: Duration = Duration::from_secs(5);

/// How often the log repeats that events can't be shipped.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Drains the rings of all workers, batches what is in them and keeps each batch until the
/// control plane has stored it.
pub(crate) struct Shipper {
    identity: Arc<Identity>,
    control_planes: Vec<Uri>,
    taps: Vec<Tap>,
    shipped: Arc<AtomicU64>,
    pending_bytes: usize,
}

/// What became of all events of this boot.
#[derive(Clone)]
pub(crate) struct Ledger {
    counts: Arc<[Arc<Counts>]>,
    shipped: Arc<AtomicU64>,
}

impl Ledger {
    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.counts.iter().map(|counts| counts.produced()).sum()
    }

    /// Events lost because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.counts.iter().map(|counts| counts.dropped()).sum()
    }

    /// Events the control plane has stored.
    pub(crate) fn shipped(&self) -> u64 {
        self.shipped.load(Relaxed)
    }

    /// Events that wait to be shipped or stored.
    pub(crate) fn waiting(&self) -> u64 {
        // Read in this order, the sum never goes below zero by more than what saturation hides.
        let gone = self.shipped() + self.dropped();
        self.produced().saturating_sub(gone)
    }
}

impl Shipper {
    /// A shipper without rings, to one of these control planes.
    pub(crate) fn new(identity: Arc<Identity>, control_planes: Vec<Uri>) -> Self {
        Self {
            identity,
            control_planes,
            taps: Vec::new(),
            shipped: Arc::default(),
            pending_bytes: PENDING_BYTES,
        }
    }

    /// Keeps no more than this for a control plane that is away.
    #[cfg(test)]
    pub(super) fn with_pending_bytes(self, pending_bytes: usize) -> Self {
        Self { pending_bytes, ..self }
    }

    /// A ring of this many events for one more worker.
    pub(crate) fn recorder(&mut self, capacity: NonZeroUsize) -> Recorder {
        let (recorder, tap) = ring(capacity.get());
        self.taps.push(tap);
        recorder
    }

    /// What became of the events of the workers there are now.
    pub(crate) fn ledger(&self) -> Ledger {
        let counts = self.taps.iter().map(|tap| tap.counts().clone()).collect();
        Ledger { counts, shipped: self.shipped.clone() }
    }

    /// Ships until `stop` is cancelled, then for a bounded time what is left. Cancel it when the
    /// workers have ended.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let pending = Pending::default();
        let mut batcher = Batcher::new(self.identity, self.taps);
        let collect = async {
            let mut due = interval(EVERY);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !stop.is_cancelled() {
                tokio::select! { _ = due.tick() => {}, () = stop.cancelled() => {} }
                collect(&mut batcher, &pending, self.pending_bytes);
            }
            // Where there is nobody to ship to, waiting would help nothing.
            let patience = if self.control_planes.is_empty() { Duration::ZERO } else { FLUSH };
            let flushed = timeout(patience, async {
                while !(batcher.is_exhausted() && pending.is_empty()) {
                    collect(&mut batcher, &pending, self.pending_bytes);
                    sleep(EVERY / 5).await;
                }
            });
            if flushed.await.is_err() {
                let events = pending.events() + batcher.waiting();
                tracing::warn!(events, "audit events were left unshipped");
            }
        };
        tokio::select! {
            () = collect => {}
            () = send(&self.control_planes, &pending, &self.shipped) => {}
        }
    }
}

/// Moves what is in the rings to the pending batches, as far as it fits.
fn collect(batcher: &mut Batcher, pending: &Pending, bound: usize) {
    while pending.has_room(bound) {
        let Some(batch) = batcher.next() else { break };
        pending.push(batch);
    }
}

/// Sends what is pending to one control plane after the other, for ever.
async fn send(control_planes: &[Uri], pending: &Pending, shipped: &AtomicU64) {
    let mut backoff = Backoff::new();
    let mut reminded: Option<Instant> = None;
    for (at, uri) in control_planes.iter().enumerate().cycle() {
        let mut lived = false;
        let ended = push(uri, pending, |events| {
            lived = true;
            shipped.fetch_add(events, Relaxed);
        });
        let lost = match ended.await {
            Ok(never) => match never {},
            Err(lost) => lost,
        };
        if lived {
            backoff.reset();
        }
        // With nothing to ship nothing is amiss: the config stream tells of what can't be reached.
        let due = lived || reminded.is_none_or(|at| at.elapsed() >= REMIND_EVERY);
        if due && !pending.is_empty() {
            reminded = Some(Instant::now());
            tracing::warn!(control_plane = %uri, "audit events wait: the control plane {lost}");
        }
        if lived || at + 1 == control_planes.len() {
            sleep(backoff.wait(random())).await;
        }
    }
    // There is no control plane: the rings fill and what comes then is dropped and counted.
    std::future::pending().await
}
