//! Audit events onward: to a file, to NATS JetStream and to an OpenTelemetry collector.
//!
//! Each sink has a task, a window of batches and a watermark of its own, so that one that is away
//! keeps nobody else waiting. A batch goes when all of it is acknowledged; after a failure the sink
//! is given the rest of it again, and after a restart all of it. So a sink gets every event at
//! least once, in the order of the node, and what it gets twice has the same id: node, boot and
//! number.

mod events;
mod file;
mod nats;
mod otlp;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use self::{events::Events, file::JsonLines, nats::JetStream, otlp::Collector};
pub use self::{
    file::{FileSettings, FileTarget},
    nats::{NatsServer, NatsSettings},
    otlp::OtlpSettings,
};
pub(crate) use self::{nats::check_credentials, otlp::check_headers};
use super::{
    alarm::is_due,
    outlet::{Kind, Outlet},
};
use crate::{
    backoff::{Backoff, random},
    identity::Identity,
};

/// A sink that asks to be left alone for longer is asked again by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where events go beside the control plane, or in its place.
#[derive(Clone, Default, Debug)]
pub struct Onward {
    /// Whether the control plane stores them.
    pub store: Store,
    /// A file of JSON Lines.
    pub file: Option<FileSettings>,
    /// NATS JetStream.
    pub nats: Option<NatsSettings>,
    /// An OpenTelemetry collector.
    pub otlp: Option<OtlpSettings>,
}

/// Whether the control plane stores audit events.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Store {
    /// It does.
    #[default]
    On,
    /// It gets none: sinks alone have them.
    Off,
}

impl Onward {
    /// The sinks there are.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let sinks = [
            (Kind::File, self.file.is_some()),
            (Kind::Nats, self.nats.is_some()),
            (Kind::Otlp, self.otlp.is_some()),
        ];
        sinks.into_iter().filter(|(_, is_set)| *is_set).map(|(kind, _)| kind).collect()
    }
}

/// Starts the task of the sink behind an outlet.
pub(super) fn start(
    onward: &Onward,
    outlet: Arc<Outlet>,
    identity: Arc<Identity>,
    tasks: &mut JoinSet<()>,
) {
    let Onward { file, nats, otlp, .. } = onward.clone();
    match outlet.kind {
        Kind::ControlPlane => None,
        Kind::File => file.map(|it| tasks.spawn(deliver(JsonLines::new(it), outlet, identity))),
        Kind::Nats => nats.map(|it| tasks.spawn(deliver(JetStream::new(it), outlet, identity))),
        Kind::Otlp => otlp.map(|it| tasks.spawn(deliver(Collector::new(it), outlet, identity))),
    };
}

/// Where events go.
trait Sink: Send {
    /// Hands over what is left of a batch, and notes what is acknowledged of it. What is under way
    /// when it fails may come again.
    fn send(
        &mut self,
        events: &Arc<Events>,
        progress: &mut Progress,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// How much of a batch a sink is done with.
#[derive(Default, Debug)]
struct Progress {
    /// Events from the first on.
    done: usize,
    /// Of those, the ones it will never take.
    refused: u64,
}

/// Why a sink did not take events.
#[derive(Debug)]
struct Fault {
    /// As an operator is told.
    why: String,
    /// For how long it asks to be left alone.
    pause: Duration,
}

impl Fault {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), pause: Duration::ZERO }
    }

    fn of(what: &str, why: impl fmt::Display) -> Self {
        Self::new(format!("{what}: {why}"))
    }
}

/// Gives a sink one batch after the other, for ever.
async fn deliver(mut sink: impl Sink, outlet: Arc<Outlet>, identity: Arc<Identity>) {
    let mut backoff = Backoff::new();
    let mut alarm = Alarm::new(outlet.kind.name());
    loop {
        let batch = outlet.window.next().await;
        match Events::decode(&batch) {
            Ok(events) => {
                let events = Arc::new(events);
                deliver_one(&mut sink, &events, &outlet, &mut backoff, &mut alarm).await;
            }
            Err(fault) => {
                // Its checksum was right: another version of the program wrote it.
                tracing::error!(%fault, sink = alarm.sink, "audit events can't be read");
                outlet.refused.fetch_add(batch.events, Relaxed);
            }
        }
        outlet.has_stored(batch.events, batch.boot == identity.boot_id);
        // It is the oldest one, and was taken just now.
        drop(outlet.window.acknowledge(batch.first_seq));
    }
}

async fn deliver_one(
    sink: &mut impl Sink,
    events: &Arc<Events>,
    outlet: &Outlet,
    backoff: &mut Backoff,
    alarm: &mut Alarm,
) {
    let mut progress = Progress::default();
    while progress.done < events.len() {
        let (done, refused) = (progress.done, progress.refused);
        let sent = sink.send(events, &mut progress).await;
        let now_refused = progress.refused - refused;
        let now_done = (progress.done - done) as u64;
        outlet.refused.fetch_add(now_refused, Relaxed);
        outlet.taken.fetch_add(now_done.saturating_sub(now_refused), Relaxed);
        outlet.is_away.store(sent.is_err(), Relaxed);
        if progress.done > done {
            backoff.reset();
        }
        match sent {
            Ok(()) => alarm.is_back(),
            Err(Fault { why, pause }) => {
                outlet.errors.fetch_add(1, Relaxed);
                alarm.is_away(&why, Instant::now());
                sleep(backoff.wait(random()).max(pause.min(LONGEST_PAUSE))).await;
            }
        }
    }
}

/// Says in the log when a sink goes away and when it is back.
struct Alarm {
    sink: &'static str,
    is_away: bool,
    told: Option<Instant>,
    /// Whether the log says that it is away.
    is_told: bool,
}

impl Alarm {
    fn new(sink: &'static str) -> Self {
        Self { sink, is_away: false, told: None, is_told: false }
    }

    fn is_away(&mut self, fault: &str, now: Instant) {
        // One that comes and goes is not told of each time.
        if !self.is_away && is_due(&mut self.told, now) {
            self.is_told = true;
            tracing::warn!(sink = self.sink, fault, "a sink of audit events is away: they wait");
        }
        self.is_away = true;
    }

    fn is_back(&mut self) {
        self.is_away = false;
        if std::mem::take(&mut self.is_told) {
            tracing::warn!(sink = self.sink, "a sink of audit events is back");
        }
    }
}
