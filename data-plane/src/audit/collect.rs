//! The thread between the rings and the sender: it empties the rings, writes what was in them to
//! the spool, and keeps the sender supplied.
//!
//! A batch just written goes to the sender as the bytes that were written. The spool is read only
//! where the sender is behind by more than the window, or earlier boots left something. When the
//! node ends, what the disk has no room for goes to the sender from memory.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    batch::{Batcher, Gap, Sealed},
    disk::Disk,
    ledger::Totals,
    outlet::{Kind, Outlet},
    spool::Read,
};

/// How long an event waits for others to fill its batch. It is in the spool within 50 ms, the
/// time the thread waits for a core and writes included.
const EVERY: Duration = Duration::from_millis(20);

/// What is under way to the control plane; what comes on top of it is on disk alone.
const WINDOW: usize = 2 << 20;

/// The same for a sink. Those that keep up share the batches.
const WINDOW_OF_SINK: usize = 4 << 20;

/// Without a spool: what is kept for a control plane that is away. What does not fit stays in the
/// rings, and what does not fit there is dropped.
const IN_MEMORY: usize = 32 << 20;

/// Moves events from the rings to where they are kept until they are stored.
pub(super) struct Collector {
    batcher: Batcher,
    /// Who gets the batches: several only where there is a disk.
    outlets: Arc<[Arc<Outlet>]>,
    totals: Arc<Totals>,
    /// Where batches are kept on disk; `None`: in memory.
    disk: Option<Disk>,
    /// A batch that found no room.
    unkept: Option<Sealed>,
    /// Whether no request will come any more.
    is_ending: bool,
    /// Whether outlets were passed on what is not on the disk.
    has_unwritten: bool,
    in_memory: usize,
}

impl Collector {
    pub(super) fn new(
        batcher: Batcher,
        outlets: Arc<[Arc<Outlet>]>,
        totals: Arc<Totals>,
        disk: Option<Disk>,
    ) -> Self {
        Self {
            batcher,
            outlets,
            totals,
            disk,
            unkept: None,
            is_ending: false,
            has_unwritten: false,
            in_memory: IN_MEMORY,
        }
    }

    /// Keeps no more than this in memory where there is no spool.
    #[cfg(test)]
    pub(super) fn with_bytes_in_memory(self, in_memory: usize) -> Self {
        Self { in_memory, ..self }
    }

    /// Collects until `stop` is cancelled, then what is left, and waits for so long until that is
    /// stored. Ends early when nobody sends any more. Blocks.
    pub(super) fn run(
        mut self,
        stop: &CancellationToken,
        sender_is_gone: &CancellationToken,
        patience: Duration,
    ) {
        while !stop.is_cancelled() && !sender_is_gone.is_cancelled() {
            let began = Instant::now();
            self.step(began);
            thread::sleep(EVERY.saturating_sub(began.elapsed()));
        }
        self.is_ending = true;
        let asked = Instant::now();
        while !self.has_ended() && !sender_is_gone.is_cancelled() && asked.elapsed() < patience {
            thread::sleep(EVERY / 4);
        }
        self.finish();
    }

    fn step(&mut self, now: Instant) {
        self.let_go();
        self.collect(now);
        self.supply(now);
        if let Some(disk) = &mut self.disk {
            disk.look_after(self.unkept.is_some(), &self.totals, now);
        }
    }

    /// Takes in what was stored, and what recovery found.
    fn let_go(&mut self) {
        let lost = self.outlets.iter().flat_map(|outlet| outlet.window.newly_lost());
        lost.for_each(|gap| self.batcher.lose(gap));
        let Some(Disk { spool, .. }) = &mut self.disk else { return };
        if let Some(recovered) = spool.recovered() {
            for (outlet, events) in self.outlets.iter().zip(recovered.events) {
                outlet.left.fetch_add(events, Relaxed);
                if events > 0 {
                    let to = outlet.kind.name();
                    tracing::info!(events, to, "an earlier start left audit events");
                }
            }
            for (boot, Gap { first_seq, events, reason }) in recovered.lost {
                self.totals.lost_by(reason).fetch_add(events, Relaxed);
                let reason = reason.name();
                tracing::warn!(%boot, first_seq, events, reason, "audit events of an earlier start are lost");
            }
        }
        for (at, outlet) in self.outlets.iter().enumerate() {
            // In this order: whatever is not in the window by now is among the newly stored.
            let has_all = outlet.window.is_empty();
            if let Some((boot, place)) = outlet.window.newly_stored() {
                spool.stored(at, boot, place);
            }
            if has_all {
                spool.stored_all(at);
            }
        }
    }

    /// Empties the rings, as far as there is room. Where more comes than can be encoded, all else is
    /// to have its turn.
    fn collect(&mut self, began: Instant) {
        while let Some(batch) = self.unkept.take().or_else(|| self.batcher.next()) {
            if let Err(batch) = self.keep(batch, began) {
                self.unkept = Some(batch);
                return;
            }
            if !self.is_ending && began.elapsed() >= EVERY {
                return;
            }
        }
    }

    fn keep(&mut self, batch: Sealed, now: Instant) -> Result<(), Sealed> {
        let Some(disk) = &mut self.disk else {
            if !self.outlets.iter().all(|outlet| outlet.window.has_room(self.in_memory)) {
                return Err(batch);
            }
            self.outlets.iter().for_each(|outlet| outlet.window.push(batch.clone(), None));
            return Ok(());
        };
        // Before there is one more to read.
        let outlets = self.outlets.iter().enumerate();
        let next: Vec<_> =
            outlets.filter(|(at, outlet)| disk.spool.is_read(*at) && has_room(outlet)).collect();
        // What came behind one that is not on the disk would be found without it.
        let written = if self.has_unwritten { None } else { disk.write(&batch, now) };
        if let Some(place) = written {
            self.batcher.is_written();
            for (at, outlet) in next {
                disk.spool.passed_on(at, place);
                outlet.window.push(batch.clone(), Some(place));
            }
            return Ok(());
        }
        if !self.is_ending || next.len() < self.outlets.len() {
            return Err(batch);
        }
        self.has_unwritten = true;
        for (at, outlet) in next {
            let place = disk.spool.pass_unwritten(at, &batch);
            outlet.window.push(batch.clone(), Some(place));
        }
        Ok(())
    }

    /// Reads what the senders need next and do not have. One that takes it as fast as it can be read
    /// gets a batch and then no more before all else had its turn.
    fn supply(&mut self, began: Instant) {
        let Some(Disk { spool, .. }) = &mut self.disk else { return };
        for (at, outlet) in self.outlets.iter().enumerate() {
            let mut is_first = true;
            while has_room(outlet) && (mem::take(&mut is_first) || began.elapsed() < EVERY) {
                match spool.read(at) {
                    Some(Read::Batch(batch, place)) => outlet.window.push(batch, Some(place)),
                    Some(Read::Lost(gap)) => {
                        let Gap { first_seq, events, .. } = gap;
                        let to = outlet.kind.name();
                        tracing::error!(
                            first_seq,
                            events,
                            to,
                            "audit events in the spool are damaged"
                        );
                        outlet.damaged.fetch_add(events, Relaxed);
                        // One of them tells it in the next batch, which all get.
                        if at == 0 {
                            self.totals.damaged.fetch_add(events, Relaxed);
                            self.batcher.lose(gap);
                        }
                    }
                    None => break,
                }
            }
        }
    }

    /// Goes on as before, and finds out whether nothing more will come and all is stored.
    fn has_ended(&mut self) -> bool {
        self.step(Instant::now());
        if self.is_all_kept() {
            self.unkept = self.batcher.last();
            self.step(Instant::now());
        }
        let is_read = |at| self.disk.as_ref().is_none_or(|disk| disk.spool.is_read(at));
        let outlets = &mut self.outlets.iter().enumerate();
        self.is_all_kept() && outlets.all(|(at, outlet)| outlet.window.is_empty() && is_read(at))
    }

    /// Whether every event there will be is in the spool, or with the outlets where there is none.
    fn is_all_kept(&self) -> bool {
        self.unkept.is_none() && self.batcher.is_exhausted()
    }

    fn finish(mut self) {
        let is_over = self.has_ended();
        if self.is_all_kept()
            && (is_over || !self.has_unwritten)
            && let Some(disk) = self.disk
        {
            disk.spool.finish();
            if !is_over {
                tracing::info!("audit events wait on disk for the next start");
            }
        } else if !is_over {
            tracing::warn!("audit events were left unshipped");
        }
    }
}

/// Whether another batch fits into what is under way to an outlet.
fn has_room(outlet: &Outlet) -> bool {
    outlet.window.has_room(match outlet.kind {
        Kind::ControlPlane => WINDOW,
        Kind::File | Kind::Nats | Kind::Otlp => WINDOW_OF_SINK,
    })
}

#[cfg(test)]
mod tests {
    use fastgate::model::Id;

    use super::*;
    use crate::{
        audit::{
            SpoolSettings, WhenFull,
            disk::Prepared,
            ring,
            tests::{event, large},
        },
        identity::Identity,
    };

    fn identity() -> Arc<Identity> {
        let id = |text| Id::parse(text).expect("an id");
        Arc::new(Identity::of_this_boot(id("default"), id("n1")))
    }

    #[test]
    fn rings_that_are_never_empty_hold_nothing_else_up() {
        let (recorder, tap) = ring(20_000);
        (0..20_000).for_each(|number| recorder.record(event(number)));
        let outlets = [Arc::new(Outlet::new(Kind::ControlPlane))].into();
        let batcher = Batcher::new(identity(), vec![tap]);
        let mut collector = Collector::new(batcher, outlets, Arc::default(), None);
        let long_ago = Instant::now() - EVERY;
        collector.step(long_ago);
        assert_eq!(collector.batcher.waiting(), 20_000 - 4096, "the others have waited enough");
        // When the node ends nothing more comes, and this may be the last time.
        collector.is_ending = true;
        collector.step(long_ago);
        assert_eq!(collector.batcher.waiting(), 0);
    }

    #[tokio::test]
    async fn a_sender_that_is_never_behind_holds_nothing_else_up() {
        let (dir, identity) = (tempfile::tempdir().expect("a folder"), identity());
        let (recorder, tap) = ring(20_000);
        (0..20_000).for_each(|number| recorder.record(large(number)));
        let outlet = Arc::new(Outlet::new(Kind::ControlPlane));
        let settings = SpoolSettings {
            dir: dir.path().to_owned(),
            limit: 1 << 30,
            when_full: WhenFull::Block,
        };
        let prepared = Prepared::new(settings, &identity, [].into());
        let disk = Disk::open(prepared, &identity, &[Kind::ControlPlane]);
        let batcher = Batcher::new(identity, vec![tap]);
        let outlets = [outlet.clone()].into();
        let mut collector = Collector::new(batcher, outlets, Arc::default(), Some(disk));
        while collector.batcher.waiting() > 0 {
            collector.step(Instant::now());
        }
        let take_all = async || {
            let mut taken = 0;
            while !outlet.window.is_empty() {
                let batch = outlet.window.next().await;
                outlet.window.acknowledge(batch.first_seq).expect("the next");
                taken += 1;
            }
            taken
        };
        assert!(take_all().await > 1);
        for _ in 0..2 {
            collector.step(Instant::now() - EVERY);
            assert_eq!(take_all().await, 1, "the others have waited enough");
        }
    }
}
