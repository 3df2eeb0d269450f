//! Ships events to the control plane and to sinks, and keeps each batch until all have it.

use std::{
    iter,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Recorder,
    alarm::is_due,
    batch::{Batcher, Sealed},
    collect::Collector,
    disk::{Disk, Prepared, SpoolSettings},
    ledger::{Ledger, Totals},
    onward::{Onward, Store, start},
    outlet::{Kind, Outlet},
    push::{Lost, push},
    refusal::{self, Refusals},
    ring::{Gate, Tap, ring_of},
    tail::{self, Tails},
    tally::Counts,
};
use crate::{
    backoff::{Backoff, random},
    control_planes::ControlPlanes,
    identity::Identity,
};

/// How long a node that ends waits for its last events to be stored.
const FLUSH: Duration = Duration::from_secs(5);

/// Drains the rings of all workers, batches what is in them and keeps each batch until everyone
/// it is for has stored it.
pub(crate) struct Shipper {
    identity: Arc<Identity>,
    control_planes: ControlPlanes,
    onward: Onward,
    outlets: Arc<[Arc<Outlet>]>,
    taps: Vec<Tap>,
    /// One for each worker, more than there are taps until all have theirs.
    counts: Arc<[&'static Counts]>,
    totals: Arc<Totals>,
    /// `None`: requests are served whatever becomes of their events.
    gate: Option<Arc<Gate>>,
    spool: Option<Prepared>,
    /// How long events wait for an environment that does not exist.
    patience: Duration,
    #[cfg(test)]
    bytes_in_memory: Option<usize>,
}

impl Shipper {
    /// A shipper for so many workers, to one of these control planes and to sinks. Those get
    /// nothing without a spool.
    pub(crate) fn new(
        identity: Arc<Identity>,
        control_planes: ControlPlanes,
        workers: NonZeroUsize,
        spool: Option<SpoolSettings>,
        onward: Onward,
    ) -> Self {
        let mut kinds = onward.kinds();
        if spool.is_none() {
            kinds.clear();
        }
        // Where there is nobody to ship to, a spool would only fill up.
        let is_stored = onward.store == Store::On && !control_planes.uris().is_empty();
        let spool = spool.filter(|_| is_stored || !kinds.is_empty());
        if is_stored || kinds.is_empty() {
            kinds.insert(0, Kind::ControlPlane);
        }
        let outlets = kinds.into_iter().map(|kind| Arc::new(Outlet::new(kind))).collect();
        let counts: Arc<[_]> = iter::repeat_with(Counts::new).take(workers.get()).collect();
        let spool = spool.map(|spool| Prepared::new(spool, &identity, counts.clone()));
        Self {
            identity,
            control_planes,
            onward,
            outlets,
            taps: Vec::new(),
            counts,
            totals: Arc::default(),
            gate: spool.as_ref().and_then(Prepared::gate),
            spool,
            patience: refusal::PATIENCE,
            #[cfg(test)]
            bytes_in_memory: None,
        }
    }

    /// Waits for no longer than this for an environment that does not exist.
    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Keeps no more than this in memory where there is no spool.
    #[cfg(test)]
    pub(super) fn with_bytes_in_memory(self, bytes: usize) -> Self {
        Self { bytes_in_memory: Some(bytes), ..self }
    }

    /// A ring of this many events for one more worker.
    pub(crate) fn recorder(&mut self, capacity: NonZeroUsize) -> Recorder {
        let counts = self.counts.get(self.taps.len()).copied();
        let counts = counts.unwrap_or_else(Counts::new);
        let (recorder, tap) = ring_of(capacity.get(), counts, self.gate.clone());
        self.taps.push(tap);
        recorder
    }

    /// What became of the events.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.counts.clone(), self.totals.clone(), self.outlets.clone())
    }

    /// Ships until `stop` is cancelled, then for a bounded time what is left. Cancel it when the
    /// workers have ended.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let is_shipped = self.spool.is_some() || !self.control_planes.uris().is_empty();
        let (tails, spotter) = tail::tails(self.identity.clone(), self.totals.clone());
        let tails = Arc::new(tails);
        let batcher = Batcher::new(self.identity.clone(), self.taps).with_spotter(spotter);
        let kinds: Vec<_> = self.outlets.iter().map(|outlet| outlet.kind).collect();
        let disk = self.spool.map(|prepared| Disk::open(prepared, &self.identity, &kinds));
        if let Some(disk) = &disk {
            self.totals.spool_limit.store(disk.spool.limit(), Relaxed);
        }
        let collector = Collector::new(batcher, self.outlets.clone(), self.totals.clone(), disk);
        #[cfg(test)]
        let collector = match self.bytes_in_memory {
            Some(bytes) => collector.with_bytes_in_memory(bytes),
            None => collector,
        };
        // Where there is nobody to ship to, waiting would help nothing.
        let patience = if is_shipped { FLUSH } else { Duration::ZERO };
        let sender_is_gone = CancellationToken::new();
        let sending = sender_is_gone.clone().drop_guard();
        let collecting = spawn_blocking(move || collector.run(&stop, &sender_is_gone, patience));
        let mut senders = JoinSet::new();
        for outlet in self.outlets.iter().cloned() {
            let identity = self.identity.clone();
            if outlet.kind == Kind::ControlPlane {
                let control_planes = self.control_planes.clone();
                let refusals = Refusals::new(identity.boot_id, self.totals.clone(), self.patience);
                let tails = tails.clone();
                senders
                    .spawn(async move { send(&control_planes, &outlet, &tails, refusals).await });
            } else {
                start(&self.onward, outlet, identity, &mut senders);
            }
        }
        tokio::select! {
            _ = collecting => {}
            () = outlive(&mut senders) => {}
        }
        drop(sending);
    }
}

/// Waits for ever, whatever becomes of the senders: what one of them has not shipped stays in the spool,
/// and the others go on.
async fn outlive(senders: &mut JoinSet<()>) {
    while let Some(ended) = senders.join_next().await {
        if let Err(fault) = ended {
            tracing::error!(%fault, "audit events are not shipped to one sink until the next start");
        }
    }
    std::future::pending().await
}

/// Sends what is in the window to one control plane after the other, for ever.
async fn send(
    control_planes: &ControlPlanes,
    outlet: &Outlet,
    tails: &Tails,
    mut refusals: Refusals,
) {
    let window = &outlet.window;
    let mut backoff = Backoff::new();
    let mut reminded = None;
    let uris = control_planes.uris();
    for (at, uri) in uris.iter().enumerate().cycle() {
        let mut lived = false;
        let lost = loop {
            let ended = push(control_planes, uri, window, tails, |batch: &Sealed| {
                lived = true;
                outlet.has_stored(batch.events, refusals.is_of_this_boot(batch));
            });
            match ended.await {
                Ok(never) => match never {},
                // What was not acknowledged is sent again.
                Err(Lost::Outdated) => {}
                Err(lost) => break lost,
            }
        };
        if lived {
            backoff.reset();
            refusals.end_wait();
        }
        if let Lost::Batch(refusal) = &lost
            && refusals.give_up(refusal, outlet, Instant::now())
        {
            // What comes behind it is sent at once.
            backoff.reset();
            continue;
        }
        // With nothing to ship nothing is amiss: the config stream tells of what can't be reached.
        if lived {
            reminded = None;
        }
        if !window.is_empty() && is_due(&mut reminded, Instant::now()) {
            tracing::warn!(control_plane = %uri, "audit events wait: the control plane {lost}");
        }
        if lived || at + 1 == uris.len() {
            sleep(backoff.wait(random())).await;
        }
    }
    // There is no control plane: the rings fill and what comes then is dropped and counted.
    std::future::pending().await
}
