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

mod catch_up;
mod cursor;
mod follow;
mod history;
mod outbox;
mod service;
mod session;
mod snapshot;
mod staging;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use fastgate::model::Id;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::staging::Published;
use crate::{
    domain::{Namespace, Rollout},
    metrics::FeedCounts,
    nodes::{Answered, Nodes},
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
    /// Whether the store was read through once: before that no environment is known.
    ready: watch::Sender<bool>,
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
        });
        let feed = Self { shared, stop };
        let (shared, stop) = (Arc::clone(&feed.shared), feed.stop.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow::run(&shared) => {}
                () = shared.nodes.share(Arc::clone(&shared.store)) => {}
            }
        });
        (feed, task)
    }

    /// The nodes of all control planes, by environment and id.
    pub(crate) fn nodes(&self, environment: Option<&Id>) -> Vec<fastgate::admin::v1::Node> {
        self.shared.nodes.list(environment, |of, ns| self.shared.head(of, ns))
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

    /// Where the connected nodes of an environment say that the limits of a key stand, after its own
    /// were made full again, if that is asked.
    pub(crate) async fn ask(&self, environment: &Id, key_id: &Id, reset: bool) -> Vec<Answered> {
        self.shared.nodes.ask(environment, key_id, reset).await
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

    /// The newest revision this replica knows; 0 where there is none.
    fn head(&self, environment: &Id, ns: Namespace) -> u64 {
        let track = self.track(environment, ns);
        track.and_then(|track| track.borrow().as_ref().map(|p| p.head.revision)).unwrap_or(0)
    }
}
