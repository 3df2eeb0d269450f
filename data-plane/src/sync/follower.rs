//! The task that follows a control plane and puts what it sends in force.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastgate::node::v1::{
    Heartbeat, Hello, Nack, NodeMessage, Status, config_stream_client::ConfigStreamClient,
    node_message::Body,
};
use http::Uri;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    Holding, Namespace, Progress,
    crash_guard::CrashGuard,
    replica::{Fault, Outcome, Replica, Step, Update},
    saver::Saver,
    state_dir::{Generation, StateDir},
};
use crate::{
    audit,
    backoff::{Backoff, random},
    dial::{self, SILENCE},
    identity::Identity,
    limits::Limiter,
    snapshot::SnapshotCell,
};

/// How often the node says how it is, and looks after its own notes.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How often the log repeats that no control plane can be reached.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The largest message taken in: a delta of a bulk change; chunks of snapshots are far smaller.
const LARGEST_MESSAGE: usize = 64 << 20;

/// Errors of one kind that are told in a status or a log line.
const TOLD: usize = 20;

/// Follows a control plane from the start of the node to its end.
pub(crate) struct Follower {
    identity: Arc<Identity>,
    control_planes: Vec<Uri>,
    cell: SnapshotCell,
    progress: Progress,
    limiter: Limiter,
    audit: audit::Ledger,
    replica: Replica,
    keys: Keeper,
    config: Keeper,
}

/// What outlives the process of one namespace.
struct Keeper {
    guard: CrashGuard,
    saver: Option<Saver>,
}

/// What a follower works with.
pub(crate) struct Parts {
    /// Who the node is.
    pub(crate) identity: Arc<Identity>,
    /// Where to find a control plane, the preferred one first.
    pub(crate) control_planes: Vec<Uri>,
    /// Where to put what requests are served from.
    pub(crate) cell: SnapshotCell,
    /// Told how many nodes share the limits; says whether it counts in Redis.
    pub(crate) limiter: Limiter,
    /// What became of the audit events.
    pub(crate) audit: audit::Ledger,
    /// Where the last good state is; `None`: nowhere.
    pub(crate) state_dir: Option<StateDir>,
}

/// Why a stream ended.
#[derive(Debug, Error)]
enum Lost {
    #[error("can't be reached: {0}")]
    Unreachable(String),
    #[error("refused the stream: {0}")]
    Refused(String),
    #[error("said nothing for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("closed the stream")]
    Closed,
    #[error("is about to leave")]
    Draining,
    #[error("sent what can't be: {0}")]
    Fault(#[from] Fault),
}

impl Follower {
    /// Puts the last good state on disk in force, if there is one. Call it inside a runtime.
    pub(crate) fn restore(parts: Parts) -> Self {
        let dir = parts.state_dir.map(Arc::new);
        let mut replica = Replica::new(parts.identity.environment.clone());
        let progress = Progress::default();
        let [keys, config] =
            Namespace::ALL.map(|ns| Keeper::restore(ns, dir.as_ref(), &mut replica, &progress));
        let follower = Self {
            identity: parts.identity,
            control_planes: parts.control_planes,
            cell: parts.cell,
            progress,
            limiter: parts.limiter,
            audit: parts.audit,
            replica,
            keys,
            config,
        };
        follower.progress.set_quarantined(follower.replica.quarantined().len());
        follower.put_in_force();
        follower
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Follows one control plane after the other until `stop` is cancelled, then saves what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow_for_ever() => {}
        }
        for keeper in [self.keys, self.config] {
            keeper.close().await;
        }
    }

    async fn follow_for_ever(&mut self) {
        if self.control_planes.is_empty() {
            self.progress.set_trouble("no control plane is set: give --control-plane".into());
            return std::future::pending().await;
        }
        let mut backoff = Backoff::new();
        let mut reminded: Option<Instant> = None;
        for (at, uri) in self.control_planes.clone().iter().enumerate().cycle() {
            let (lost, lived) = match self.follow(uri).await {
                Ok(never) => match never {},
                Err(lost) => (lost, self.progress.connected()),
            };
            self.progress.set_connected(false);
            self.progress.set_trouble(format!("the control plane {uri} {lost}"));
            if lived {
                backoff.reset();
                tracing::warn!(control_plane = %uri, "lost the control plane: it {lost}");
            } else if reminded.is_none_or(|at| at.elapsed() >= REMIND_EVERY) {
                reminded = Some(Instant::now());
                tracing::warn!(control_plane = %uri, "the control plane {lost}; trying on");
            }
            // Another one may be there right now: wait only when all were tried.
            if lived || at + 1 == self.control_planes.len() {
                sleep(backoff.wait(random())).await;
            }
            self.settle();
        }
    }

    async fn follow(&mut self, uri: &Uri) -> Result<std::convert::Infallible, Lost> {
        let channel = dial::connect(uri).await.map_err(Lost::Unreachable)?;
        let (outbound, messages) = mpsc::channel(16);
        say(&outbound, Body::Hello(self.hello())).await?;
        let mut client =
            ConfigStreamClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        let stream = timeout(SILENCE, client.sync(ReceiverStream::new(messages))).await;
        let stream = stream.map_err(|_| Lost::Silent)?.map_err(refused)?;
        let mut inbound = stream.into_inner();
        let mut status_due = interval(STATUS_EVERY);
        status_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = tokio::time::Instant::now();
        loop {
            let message = tokio::select! {
                message = tokio::time::timeout_at(heard + SILENCE, inbound.message()) => message,
                _ = status_due.tick() => {
                    self.settle();
                    say(&outbound, Body::Status(self.status())).await?;
                    continue;
                }
            };
            let message = message.map_err(|_| Lost::Silent)?.map_err(refused)?;
            heard = tokio::time::Instant::now();
            if !self.progress.connected() {
                self.progress.set_connected(true);
                tracing::info!(control_plane = %uri, "following the control plane");
            }
            match self.replica.receive(message.ok_or(Lost::Closed)?)? {
                Step::Continue => {}
                Step::Update(update) => {
                    say(&outbound, self.apply(update, heard.into_std())).await?
                }
                Step::Heartbeat(heartbeat) => self.note(heartbeat),
                Step::Drain => return Err(Lost::Draining),
            }
        }
    }

    /// Takes an update into use, or keeps what there is, and says which.
    fn apply(&mut self, update: Update, received: Instant) -> Body {
        let (ns, revision) = (update.namespace(), update.revision());
        let snapshot = update.is_snapshot();
        if !self.replica.bars(&update) {
            self.keeper(ns).guard.attempt(revision, Instant::now());
        }
        match self.replica.admit(update) {
            Outcome::InForce(mut ack) => {
                self.put_in_force();
                ack.apply_us = u64::try_from(received.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.progress.set_held(ns, revision);
                self.progress.count_applied(ns, snapshot);
                self.progress.set_quarantined(self.replica.quarantined().len());
                tracing::debug!(namespace = ns.name(), revision, snapshot, "took a revision");
                let held = self.replica.held(ns).cloned();
                if let (Some(saver), Some(held)) = (&self.keeper(ns).saver, held) {
                    saver.save(held);
                }
                Body::Ack(ack)
            }
            Outcome::Refused(nack) => {
                self.keeper(ns).guard.strike_out();
                self.progress.count_nack(ns);
                let refusal = format!("refused {} revision {revision}: {}", ns.name(), list(&nack));
                tracing::error!("{refusal}");
                self.progress.set_trouble(refusal);
                Body::Nack(nack)
            }
        }
    }

    fn put_in_force(&self) {
        if let Some(snapshot) = self.replica.snapshot() {
            self.cell.store(snapshot);
        }
    }

    fn note(&self, heartbeat: Heartbeat) {
        self.progress.set_head(Namespace::Keys, heartbeat.keys_revision);
        self.progress.set_head(Namespace::Config, heartbeat.config_revision);
        self.limiter.set_node_count(heartbeat.node_count);
    }

    fn hello(&mut self) -> Hello {
        Hello {
            node_id: self.identity.node_id.to_string(),
            boot_id: self.identity.boot_id.clone(),
            version: Identity::VERSION.to_owned(),
            environment: self.identity.environment.to_string(),
            held: self.replica.open_stream(),
        }
    }

    fn status(&self) -> Status {
        Status {
            events_produced: self.audit.produced(),
            events_dropped: self.audit.dropped(),
            limits_state: self.limiter.state().name().to_owned(),
            quarantined: self.replica.quarantined().iter().take(TOLD).cloned().collect(),
        }
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.keys.guard.settle(now);
        self.config.guard.settle(now);
    }

    fn keeper(&mut self, ns: Namespace) -> &mut Keeper {
        match ns {
            Namespace::Keys => &mut self.keys,
            Namespace::Config => &mut self.config,
        }
    }
}

impl Keeper {
    /// Reads what is kept of a namespace and takes the best of it into use.
    fn restore(
        ns: Namespace,
        dir: Option<&Arc<StateDir>>,
        replica: &mut Replica,
        progress: &Progress,
    ) -> Self {
        let mut guard = CrashGuard::open(dir.map(|dir| dir.path()), ns);
        let Some(dir) = dir else { return Self { guard, saver: None } };
        let newest = dir.load(ns, Generation::Newest);
        let previous = dir.load(ns, Generation::Previous);
        if let Some(revision) = guard.condemned() {
            // Barring what there is nothing to replace with would only make an outage certain.
            let condemns_all = newest.as_ref().is_some_and(|state| state.revision == revision)
                && previous.as_ref().is_none_or(|state| state.revision == revision);
            if !condemns_all {
                tracing::error!(namespace = ns.name(), revision, "two starts died of a revision");
                replica.bar(ns, revision);
            }
        }
        let mut newest_is_sound = false;
        for (state, is_newest) in [(newest, true), (previous, false)] {
            let Some(state) = state else { continue };
            if take(ns, state, replica, &mut guard, progress) {
                newest_is_sound = is_newest;
                break;
            }
        }
        Self { guard, saver: Some(Saver::start(dir.clone(), ns, newest_is_sound)) }
    }

    async fn close(mut self) {
        self.guard.strike_out();
        if let Some(saver) = self.saver {
            saver.finish().await;
        }
    }
}

/// Takes a saved state into use; false when it was refused.
fn take(
    ns: Namespace,
    state: Holding,
    replica: &mut Replica,
    guard: &mut CrashGuard,
    progress: &Progress,
) -> bool {
    let (revision, entities) = (state.revision, state.len());
    guard.attempt(revision, Instant::now());
    match replica.restore(ns, state) {
        Ok(()) => {
            tracing::info!(namespace = ns.name(), revision, entities, "restored from disk");
            progress.set_held(ns, revision);
            true
        }
        Err(nack) => {
            tracing::error!(
                namespace = ns.name(),
                revision,
                "a saved state is not used: {}",
                list(&nack)
            );
            false
        }
    }
}

fn refused(status: tonic::Status) -> Lost {
    Lost::Refused(dial::refusal(&status))
}

async fn say(outbound: &mpsc::Sender<NodeMessage>, body: Body) -> Result<(), Lost> {
    let message = NodeMessage { body: Some(body) };
    // A control plane that does not read for this long is as good as silent.
    let sent = timeout(SILENCE, outbound.send(message)).await.map_err(|_| Lost::Silent)?;
    sent.map_err(|_| Lost::Closed)
}

fn list(nack: &Nack) -> String {
    let told: Vec<_> = nack.errors.iter().take(TOLD).map(describe).collect();
    let untold = nack.errors.len().saturating_sub(TOLD);
    let more = if untold > 0 { format!("; and {untold} more") } else { String::new() };
    told.join("; ") + &more
}

fn describe(error: &fastgate::node::v1::EntityError) -> String {
    let kind = match error.kind() {
        fastgate::node::v1::EntityKind::Key => "key",
        fastgate::node::v1::EntityKind::Route => "route",
        fastgate::node::v1::EntityKind::Upstream => "upstream",
        fastgate::node::v1::EntityKind::Settings => "settings",
        fastgate::node::v1::EntityKind::Unspecified => return error.message.clone(),
    };
    format!("{kind} {}: {}: {}", error.id, error.field, error.message)
}
