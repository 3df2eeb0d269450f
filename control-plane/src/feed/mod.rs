//! The config feed: every committed revision, to every node, at once.
//!
//! ```text
//! Store --changed, log--> Follower --> History (one per namespace of an environment)
//!                                         | watch: the head moved
//!                     node <--stream-- Session (one per node, with its own cursor)
//! ```
//!
//! A session makes each message when its node has room for it, so nothing queues up for a slow node:
//! a snapshot is made chunk by chunk, and a node that has taken one step is given all it has missed
//! in the next. Keys go before everything else, also between the chunks of the config. While a rollout is
//! under way, what a session takes for the head depends on the ring its node is in.

mod absence;
mod catch_up;
mod cursor;
mod ending;
mod entities;
mod follow;
mod history;
mod outbox;
mod round;
mod service;
mod session;
mod set_back;
mod snapshot;
mod staging;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Instant, SystemTime},
};

use fastgate::{
    admin::v1::{NamespaceConfig, SetBack},
    model::Id,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{absence::Absence, set_back::SetBacks, staging::Published};
use crate::{
    domain::{Namespace, Rollout},
    metrics::FeedCounts,
    nodes::Nodes,
    store::Store,
};

/// What follows the store on behalf of all nodes.
#[derive(Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    store: Arc<dyn Store>,
    nodes: Nodes,
    counts: FeedCounts,
    tracks: RwLock<HashMap<(Id, Namespace), Arc<Track>>>,
    /// Whether the store was looked through once: before that no environment is known.
    ready: watch::Sender<bool>,
    /// The last time when everything was here that the store had then; `None`: never.
    caught_up: Mutex<Option<Instant>>,
    absence: Absence,
    set_backs: SetBacks,
}

/// What comes of comparing what a node holds with what is held here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compared {
    Match,
    Differ,
    /// It is no revision this replica remembers.
    Unknown,
}

impl Compared {
    /// Of both namespaces together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Differ, _) | (_, Self::Differ) => Self::Differ,
            (Self::Match, Self::Match) => Self::Match,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "match",
            Self::Differ => "differ",
            Self::Unknown => "",
        })
    }
}

/// One namespace of one environment; `None` once the environment is gone.
type Track = watch::Sender<Option<Published>>;

impl Feed {
    /// Starts to follow the store, and the nodes of other replicas. The task ends with `stop`, also
    /// while the store hangs.
    pub(crate) fn start(store: Arc<dyn Store>, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let shared = Arc::new(Shared {
            store,
            nodes: Nodes::default(),
            counts: FeedCounts::default(),
            tracks: RwLock::default(),
            ready: watch::Sender::new(false),
            caught_up: Mutex::default(),
            absence: Absence::default(),
            set_backs: SetBacks::default(),
        });
        let feed = Self { shared, stop };
        let (shared, stop) = (Arc::clone(&feed.shared), feed.stop.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow::run(&shared) => {}
                () = shared.nodes.share(Arc::clone(&shared.store), |of, ns| shared.head(of, ns)) => {}
            }
        });
        (feed, task)
    }

    /// The nodes of all control planes, by environment and id.
    pub(crate) fn nodes(&self, environment: Option<&Id>) -> Vec<fastgate::admin::v1::Node> {
        let mut nodes = self.shared.nodes.list(environment, |of, ns| self.shared.head(of, ns));
        for node in &mut nodes {
            let Ok(of) = Id::parse(&node.environment) else { continue };
            let compare =
                |ns, digest: &str, revision| self.shared.compare(&of, ns, digest, revision);
            let keys = compare(Namespace::Keys, &node.keys_digest, node.keys_revision);
            let config = compare(Namespace::Config, &node.config_digest, node.config_revision);
            node.digests = keys.and(config).to_string();
        }
        nodes
    }

    /// Whether an environment is there, as far as this control plane knows without the database.
    pub(crate) fn knows(&self, environment: &Id) -> bool {
        self.shared.track(environment, Namespace::Config).is_some()
    }

    /// The environments there are, in no order, as far as is known without the database.
    pub(crate) fn environments(&self) -> Vec<Id> {
        let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
        let names = tracks.keys().filter(|(_, ns)| *ns == Namespace::Config);
        names.map(|(environment, _)| environment.clone()).collect()
    }

    /// The newest revision this replica knows; 0 where there is none.
    pub(crate) fn head(&self, environment: &Id, ns: Namespace) -> u64 {
        self.shared.head(environment, ns)
    }

    /// The last time when everything was here that the store had then; `None`: never.
    pub(crate) fn caught_up(&self) -> Option<Instant> {
        *self.shared.caught_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the database lost of an environment since this control plane started.
    pub(crate) fn set_backs(&self, environment: &Id) -> Vec<SetBack> {
        self.shared.set_backs.list(environment)
    }

    /// How many keys there are, and those active ones that end until then, the first on top. Looks
    /// through all of them.
    pub(crate) fn keys_ending_by(
        &self,
        environment: &Id,
        until: SystemTime,
    ) -> (u64, Vec<(i64, String)>) {
        let track = self.shared.track(environment, Namespace::Keys);
        let Some(published) = track.and_then(|track| track.borrow().clone()) else {
            return (0, Vec::new());
        };
        (published.head.len() as u64, ending::keys_by(&published.head, until))
    }

    /// Those that are connected to this one, to be asked.
    pub(crate) fn nodes_here(&self) -> &Nodes {
        &self.shared.nodes
    }

    /// Adds to what a node holds of a namespace what this control plane holds.
    pub(crate) fn compare(&self, environment: &Id, ns: Namespace, held: &mut NamespaceConfig) {
        let track = self.shared.track(environment, ns);
        let Some(published) = track.and_then(|track| track.borrow().clone()) else { return };
        let head = &published.head;
        held.head = head.revision;
        let compared = match held.epoch == head.epoch {
            true => self.shared.compare(environment, ns, &held.digest, held.revision),
            false => Compared::Differ,
        };
        held.compared = compared.to_string();
    }

    /// The rollouts under way, with their environments.
    pub(crate) fn rollouts(&self) -> Vec<(Id, Rollout)> {
        let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
        let active = tracks.iter().filter_map(|((environment, _), track)| {
            let published = track.borrow();
            Some((environment.clone(), published.as_ref()?.active()?.clone()))
        });
        active.collect()
    }

    /// What it sent so far.
    pub(crate) fn counts(&self) -> &FeedCounts {
        &self.shared.counts
    }
}

impl Shared {
    fn track(&self, environment: &Id, ns: Namespace) -> Option<Arc<Track>> {
        let tracks = self.tracks.read().unwrap_or_else(PoisonError::into_inner);
        tracks.get(&(environment.clone(), ns)).cloned()
    }

    /// Notes that a namespace went back.
    fn note_set_back(&self, environment: &Id, ns: Namespace, from: u64, to: u64) {
        if self.set_backs.note(environment, ns, from, to) {
            self.counts.set_backs.inc();
        }
    }

    /// Notes that the store has answered.
    fn note_heard(&self) {
        self.absence.end(Instant::now());
    }

    /// Whether everything the store had was read since then.
    fn has_read_since(&self, then: Instant) -> bool {
        let caught_up = *self.caught_up.lock().unwrap_or_else(PoisonError::into_inner);
        caught_up.is_some_and(|at| at > then)
    }

    /// Whether what a node holds at a revision is what is held here.
    fn compare(&self, environment: &Id, ns: Namespace, digest: &str, revision: u64) -> Compared {
        let track = self.track(environment, ns);
        let published = track.and_then(|track| track.borrow().clone());
        match published.and_then(|published| published.head.digest_at(revision)) {
            _ if digest.is_empty() => Compared::Unknown,
            Some(held) if held.to_string() == digest => Compared::Match,
            Some(_) => Compared::Differ,
            None => Compared::Unknown,
        }
    }

    /// The newest revision this replica knows; 0 where there is none.
    fn head(&self, environment: &Id, ns: Namespace) -> u64 {
        let track = self.track(environment, ns);
        track.and_then(|track| track.borrow().as_ref().map(|p| p.head.revision)).unwrap_or(0)
    }
}
