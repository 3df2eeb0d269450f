//! The task that follows a control plane and puts what it sends in force.

mod fallen;
mod restoring;

use std::{sync::Arc, time::Duration};

use fastgate::node::v1::{
    EntityKind, Heartbeat, Hello, Nack, NodeMessage, Status,
    config_stream_client::ConfigStreamClient, node_message::Body,
};
use http::Uri;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    Holding, Namespace, Position, Progress,
    crash_guard::CrashGuard,
    health::Health,
    question::{self, Grounds},
    replica::{Fault, Outcome, Replica, Step, Update},
    saver::Saver,
    state_dir::{Generation, StateDir},
    trial::Trials,
};
use crate::{
    audit,
    backoff::{Backoff, random},
    control_planes::ControlPlanes,
    counters::WorkerMetrics,
    dial::{self, SILENCE},
    falls::Fallen,
    fatal::{self, When},
    identity::Identity,
    limits::Limiter,
    settings::Settings,
    snapshot::SnapshotCell,
};

/// How often the node says how it is, and looks after its own notes.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How often the log repeats that no control plane can be reached.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The longest wait before all control planes are tried again. With a connection that is given up just then
/// (`CONNECT_TIMEOUT`) a node is back within 5 seconds of being able to.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A stream that lasts this long was a good one.
const LIVED: Duration = Duration::from_secs(5);

const CONFIG: Namespace = Namespace::Config;

/// The largest message taken in: a delta of a bulk change; chunks of snapshots are far smaller.
const LARGEST_MESSAGE: usize = 64 << 20;

/// Questions that are answered at a time; further ones are declined.
const QUESTIONS: usize = 16;

/// Errors of one kind that are told in a status or a log line.
const TOLD: usize = 20;

/// Follows a control plane from the start of the node to its end.
pub(crate) struct Follower {
    /// When it did.
    started: Instant,
    identity: Arc<Identity>,
    settings: Arc<Settings>,
    control_planes: ControlPlanes,
    cell: SnapshotCell,
    progress: Progress,
    limiter: Limiter,
    audit: audit::Ledger,
    health: Health,
    replica: Replica,
    guard: CrashGuard,
    trials: Trials,
    /// Hears of what panicked.
    fallen: Fallen,
    /// Where the last good state is; `None`: nowhere.
    disk: Option<Disk>,
}

/// What outlives the process.
struct Disk {
    dir: Arc<StateDir>,
    keys: Saver,
    config: Saver,
}

/// What a follower works with.
pub(crate) struct Parts {
    /// Who the node is.
    pub(crate) identity: Arc<Identity>,
    /// What requests are served by.
    pub(crate) settings: Arc<Settings>,
    /// Where to find a control plane, the preferred one first.
    pub(crate) control_planes: ControlPlanes,
    /// Where to put what requests are served from.
    pub(crate) cell: SnapshotCell,
    /// Told how many nodes share the limits; says whether it counts in Redis.
    pub(crate) limiter: Limiter,
    /// What became of the audit events.
    pub(crate) audit: audit::Ledger,
    /// What each worker counts.
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// Hears of what panicked.
    pub(crate) fallen: Fallen,
    /// Where the last good state is; `None`: nowhere.
    pub(crate) state_dir: Option<Arc<StateDir>>,
}

/// Why a stream ended.
#[derive(Debug, Error)]
enum Lost {
    #[error("can't be reached: {0}")]
    Unreachable(String),
    #[error("refused the stream: {0}")]
    Refused(String),
    #[error("left without a word: {0}")]
    Broke(String),
    #[error("said nothing for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("closed the stream")]
    Closed,
    #[error("is about to leave")]
    Draining,
    #[error("is asked once more for the config that was put aside")]
    Pardoned,
    #[error("is to see the node's new certificate")]
    Outdated,
    #[error("is told of the config that was taken back")]
    TakenBack,
    #[error("sent what can't be: {0}")]
    Fault(#[from] Fault),
}

impl Follower {
    /// Puts the last good state on disk in force, if there is one. Call it inside a runtime.
    pub(crate) fn restore(parts: Parts) -> Self {
        let dir = parts.state_dir;
        let guard = CrashGuard::open(dir.as_ref().map(|dir| dir.path()), Instant::now());
        let mut follower = Self {
            started: Instant::now(),
            replica: Replica::new(parts.identity.environment.clone()),
            settings: parts.settings,
            identity: parts.identity,
            control_planes: parts.control_planes,
            cell: parts.cell,
            progress: Progress::default(),
            limiter: parts.limiter,
            audit: parts.audit,
            health: Health::of(parts.workers),
            guard,
            trials: Trials::default(),
            fallen: parts.fallen,
            disk: None,
        };
        follower.disk = dir.map(|dir| {
            follower.limiter.set_node_count_before(dir.node_count().unwrap_or_default());
            let [keys, config] = Namespace::ALL.map(|ns| {
                let newest_is_sound = follower.restore_from(&dir, ns);
                Saver::start(dir.clone(), ns, newest_is_sound, follower.progress.clone())
            });
            Disk { dir, keys, config }
        });
        follower.put_in_force();
        follower
    }

    /// As if config had been put aside for long enough.
    #[cfg(test)]
    pub(super) fn end_wait(&mut self) {
        self.guard.end_wait();
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
        self.hear_all();
        self.guard.strike_out();
        if let Some(disk) = self.disk {
            disk.keys.finish().await;
            disk.config.finish().await;
        }
    }

    async fn follow_for_ever(&mut self) {
        let uris = self.control_planes.uris().to_vec();
        if uris.is_empty() {
            self.progress.set_trouble("no control plane is set: give --control-plane".into());
            return std::future::pending().await;
        }
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        let mut reminded: Option<Instant> = None;
        for (at, uri) in uris.iter().enumerate().cycle() {
            let began = Instant::now();
            let lost = loop {
                match self.follow(uri).await {
                    Err(lost @ (Lost::Outdated | Lost::TakenBack)) => {
                        tracing::info!("reopening the stream: the control plane {lost}");
                    }
                    Err(lost) => break lost,
                }
            };
            // One that fails soon after its first word is waited for like one that is away.
            let lived = self.progress.connected() && began.elapsed() >= LIVED;
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
            if lived || at + 1 == uris.len() {
                sleep(backoff.wait(random())).await;
            }
            self.settle();
        }
    }

    async fn follow(&mut self, uri: &Uri) -> Result<std::convert::Infallible, Lost> {
        let mut connected = self.control_planes.connect(uri).await.map_err(Lost::Unreachable)?;
        let (outbound, messages) = mpsc::channel(16);
        say(&outbound, Body::Hello(self.hello())).await?;
        let mut client = ConfigStreamClient::new(connected.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE);
        let stream = timeout(SILENCE, client.sync(ReceiverStream::new(messages))).await;
        let stream = stream.map_err(|_| Lost::Silent)?.map_err(refused)?;
        let mut inbound = stream.into_inner();
        let mut status_due = interval(STATUS_EVERY);
        status_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        // Redis may take its time to answer them: revisions don't wait for it.
        let mut asked = JoinSet::new();
        loop {
            // In this order: however many messages come, they keep nothing from its turn.
            let message = tokio::select! {
                biased;
                () = connected.outdated() => return Err(Lost::Outdated),
                Some(fall) = self.fallen.recv() => {
                    if self.hears_of(fall) {
                        return Err(Lost::TakenBack);
                    }
                    continue;
                }
                _ = status_due.tick() => {
                    if self.settle() {
                        return Err(Lost::Pardoned);
                    }
                    say(&outbound, Body::Status(self.status())).await?;
                    continue;
                }
                Some(_) = asked.join_next() => continue,
                message = tokio::time::timeout_at(heard + SILENCE, inbound.message()) => message,
            };
            let message = message.map_err(|_| Lost::Silent)?.map_err(refused)?;
            let message = message.ok_or(Lost::Closed)?;
            heard = Instant::now();
            if !self.progress.connected() {
                self.progress.set_connected(true);
                tracing::info!(control_plane = %uri, "following the control plane");
            }
            match self.replica.receive(message)? {
                Step::Continue => {}
                Step::Update(update) => say(&outbound, self.apply(update, heard)).await?,
                Step::Heartbeat(heartbeat) => self.note(heartbeat),
                Step::Drain => return Err(Lost::Draining),
                Step::Question(question) => {
                    let begun = question::begin(question, &self.grounds());
                    if asked.len() >= QUESTIONS {
                        let answer = begun.decline("is asked too much at a time");
                        say(&outbound, Body::Answer(answer)).await?;
                        continue;
                    }
                    let outbound = outbound.clone();
                    asked.spawn(async move {
                        let answer = begun.answer().await;
                        say(&outbound, Body::Answer(answer)).await
                    });
                }
            }
        }
    }

    /// Takes an update into use, or keeps what there is, and says which.
    fn apply(&mut self, update: Update, received: Instant) -> Body {
        let (ns, revision) = (update.namespace(), update.revision());
        let snapshot = update.is_snapshot();
        if ns == Namespace::Config && !self.replica.bars(&update) {
            self.guard.attempt(update.position(), Instant::now());
        }
        let from = self.replica.held(ns).map(Holding::position);
        let to = update.position();
        let before = self.replica.held(CONFIG).filter(|_| ns == CONFIG).cloned();
        let outcome = self.replica.admit(update);
        if ns == CONFIG {
            self.progress.set_refused_config(self.refused_config());
        }
        match outcome {
            Outcome::InForce(mut ack) => {
                self.put_in_force();
                let is_later = |from: &Position| from.epoch == to.epoch && from.revision > revision;
                if let Some(from) = from.filter(is_later) {
                    tracing::warn!(
                        namespace = ns.name(),
                        from = from.revision,
                        to = revision,
                        "went back to an earlier revision, as the control plane did"
                    );
                    if ns == CONFIG {
                        self.replica.bar(None);
                        self.guard.forget_after(&to);
                    }
                }
                if ns == CONFIG {
                    self.health.turn(revision);
                    self.put_on_trial(before);
                }
                ack.apply_us = u64::try_from(received.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.progress.set_held(ns, revision);
                self.progress.count_applied(ns, snapshot);
                tracing::debug!(namespace = ns.name(), revision, snapshot, "took a revision");
                if let (Some(disk), Some(held)) = (&self.disk, self.replica.held(ns)) {
                    disk.saver(ns).save(held.clone());
                }
                Body::Ack(ack)
            }
            Outcome::Refused(nack) => {
                self.guard.strike_out();
                self.progress.count_nack(ns);
                let refusal = format!("refused {} revision {revision}: {}", ns.name(), list(&nack));
                tracing::error!("{refusal}");
                self.progress.set_trouble(refusal);
                Body::Nack(nack)
            }
        }
    }

    fn put_in_force(&self) {
        self.progress.set_quarantined(self.replica.quarantined().len());
        if let Some(config) = self.replica.held(CONFIG) {
            fatal::kill(When::Taken, |id| config.get(EntityKind::Route.into(), id).is_some());
        }
        if let Some(snapshot) = self.replica.snapshot() {
            self.cell.store(snapshot);
        }
    }

    /// What is wrong with the newest config, where it was refused.
    fn refused_config(&self) -> Option<String> {
        let nacks = self.replica.refused().into_iter().filter_map(|refusal| refusal.nack);
        let nack = nacks.into_iter().find(|nack| nack.ns == i32::from(CONFIG.to_wire()))?;
        Some(format!("revision {}: {}", nack.revision, list(&nack)))
    }

    fn note(&self, heartbeat: Heartbeat) {
        self.progress.set_head(Namespace::Keys, heartbeat.keys_revision);
        self.progress.set_head(Namespace::Config, heartbeat.config_revision);
        if self.limiter.set_node_count(heartbeat.node_count)
            && let Some(disk) = &self.disk
        {
            disk.dir.keep_node_count(heartbeat.node_count);
        }
    }

    fn hello(&mut self) -> Hello {
        Hello {
            node_id: self.identity.node_id.to_string(),
            boot_id: self.identity.boot_id.to_string(),
            version: Identity::VERSION.to_owned(),
            environment: self.identity.environment.to_string(),
            held: self.replica.open_stream(),
            refused: self.replica.refused(),
            labels: self.settings.labels.written().collect(),
            answers_questions: true,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What questions are about.
    fn grounds(&self) -> Grounds<'_> {
        Grounds {
            node_id: self.identity.node_id.as_str(),
            environment: self.identity.environment.as_str(),
            settings: &self.settings,
            replica: &self.replica,
            snapshots: &self.cell,
            limiter: &self.limiter,
            has_room: !self.audit.is_shut(),
        }
    }

    fn status(&self) -> Status {
        Status {
            events_produced: self.audit.produced(),
            events_dropped: self.audit.dropped(),
            events_stored: self.audit.stored(),
            events_spooled: self.audit.spooled(),
            events_left: self.audit.left(),
            spool_bytes: self.audit.spool_bytes(),
            spool_limit: self.audit.spool_limit(),
            spool_full: self.audit.is_full(),
            limits_state: self.limiter.state().name().to_owned(),
            quarantined: self.replica.quarantined().iter().take(TOLD).cloned().collect(),
            health: self.health.now(),
            health_before: self.health.before(),
        }
    }

    /// Looks after replaced snapshots, what panicked and the crash guard's notes. Whether config that was put
    /// aside is to be tried again.
    fn settle(&mut self) -> bool {
        self.cell.tidy();
        self.hear_all();
        let now = Instant::now();
        self.trials.settle(now);
        self.guard.settle(now);
        let Some(pardoned) = self.guard.pardon(now) else { return false };
        tracing::warn!(revision = pardoned.revision, "trying the config again that was put aside");
        self.replica.bar(None);
        self.progress.set_refused_config(None);
        let newest = self.disk.as_ref().and_then(|disk| disk.dir.load(CONFIG, Generation::Newest));
        if let Some(state) = newest.filter(|state| state.position() == pardoned) {
            let held = self.replica.held(CONFIG).cloned();
            self.take(CONFIG, state);
            self.put_in_force();
            self.put_on_trial(held);
        }
        true
    }
}

impl Disk {
    fn saver(&self, ns: Namespace) -> &Saver {
        match ns {
            Namespace::Keys => &self.keys,
            Namespace::Config => &self.config,
        }
    }
}

fn refused(status: tonic::Status) -> Lost {
    match dial::broke(&status) {
        Some(why) => Lost::Broke(why),
        None => Lost::Refused(dial::refusal(&status)),
    }
}

async fn say(outbound: &mpsc::Sender<NodeMessage>, body: Body) -> Result<(), Lost> {
    let message = NodeMessage { body: Some(body) };
    // A control plane that does not read for this long is as good as silent.
    let sent = timeout(SILENCE, outbound.send(message)).await.map_err(|_| Lost::Silent)?;
    sent.map_err(|_| Lost::Closed)
}

fn list(nack: &Nack) -> String {
    let told: Vec<_> = nack.errors.iter().take(TOLD).map(ToString::to_string).collect();
    let untold = nack.errors.len().saturating_sub(TOLD);
    let more = if untold > 0 { format!("; and {untold} more") } else { String::new() };
    told.join("; ") + &more
}
