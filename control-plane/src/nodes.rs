//! The nodes that follow this control plane, and those that did until an hour ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1,
    model::Id,
    node::v1::{EntityError, EntityKind, Nack, Status},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::Namespace;

/// How long a node that went is remembered.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// Nodes known at once, connected or not.
const NODES: usize = 10_000;

/// Faults of a refusal that are told.
const TOLD: usize = 5;

/// A shared list of nodes.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    nodes: Mutex<HashMap<Name, Node>>,
    /// Told when a node comes or goes.
    count_changed: watch::Sender<()>,
}

type Name = (Id, String);

struct Node {
    greeting: Greeting,
    connected_at: SystemTime,
    last_seen_at: SystemTime,
    /// Cancelled when a newer stream of the same node takes over; tells whose the entry is.
    replaced: Option<CancellationToken>,
    last_nack: String,
    status: Status,
}

/// How a node introduces itself.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) environment: Id,
    pub(crate) node_id: String,
    pub(crate) boot_id: String,
    pub(crate) version: String,
    pub(crate) keys_revision: u64,
    pub(crate) config_revision: u64,
}

/// A connected node's hold on its entry: dropped, the node counts as gone.
pub(crate) struct Lease {
    nodes: Nodes,
    name: Name,
    replaced: CancellationToken,
}

impl Nodes {
    /// Enters a node. A stream it had before is told to end. `None`: there are too many.
    pub(crate) fn connect(&self, greeting: Greeting) -> Option<Lease> {
        let now = SystemTime::now();
        let name = (greeting.environment.clone(), greeting.node_id.clone());
        let replaced = CancellationToken::new();
        let mut nodes = self.lock();
        nodes.retain(|_, node| node.replaced.is_some() || !is_forgotten(node, now));
        if nodes.len() >= NODES && !nodes.contains_key(&name) {
            return None;
        }
        let node = Node {
            greeting,
            connected_at: now,
            last_seen_at: now,
            replaced: Some(replaced.clone()),
            last_nack: String::new(),
            status: Status::default(),
        };
        if let Some(Node { replaced: Some(older), .. }) = nodes.insert(name.clone(), node) {
            older.cancel();
        }
        drop(nodes);
        self.0.count_changed.send_replace(());
        Some(Lease { nodes: self.clone(), name, replaced })
    }

    /// Connected nodes of an environment: at least 1, for whoever asks divides by it.
    pub(crate) fn count(&self, environment: &Id) -> u32 {
        let nodes = self.lock();
        let connected = nodes
            .iter()
            .filter(|((of, _), node)| of == environment && node.replaced.is_some())
            .count();
        u32::try_from(connected.max(1)).unwrap_or(u32::MAX)
    }

    /// Told whenever [`Nodes::count`] may have changed.
    pub(crate) fn count_changes(&self) -> watch::Receiver<()> {
        self.0.count_changed.subscribe()
    }

    /// All nodes, by environment and id; `head` says how far each could be.
    pub(crate) fn list(
        &self,
        environment: Option<&Id>,
        head: impl Fn(&Id, Namespace) -> u64,
    ) -> Vec<v1::Node> {
        let now = SystemTime::now();
        let nodes = self.lock();
        let mut named: Vec<_> = nodes
            .iter()
            .filter(|((of, _), _)| environment.is_none_or(|environment| environment == of))
            .filter(|(_, node)| node.replaced.is_some() || !is_forgotten(node, now))
            .collect();
        named.sort_by_key(|(name, _)| *name);
        named.into_iter().map(|(_, node)| node.to_wire(&head)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Node>> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(crate) fn node_id(&self) -> &str {
        &self.name.1
    }

    /// Returns when a newer stream of the node took over.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    pub(crate) fn acked(&self, ns: Namespace, revision: u64) {
        self.note(|node| match ns {
            Namespace::Keys => node.greeting.keys_revision = revision,
            Namespace::Config => node.greeting.config_revision = revision,
        });
    }

    pub(crate) fn nacked(&self, nack: &Nack) {
        let told: Vec<_> = nack.errors.iter().take(TOLD).map(describe).collect();
        self.note(|node| {
            node.last_nack = format!("revision {}: {}", nack.revision, told.join("; "));
        });
    }

    pub(crate) fn status(&self, status: &Status) {
        self.note(|node| node.status = status.clone());
    }

    fn note(&self, change: impl FnOnce(&mut Node)) {
        if self.replaced.is_cancelled() {
            return;
        }
        if let Some(node) = self.nodes.lock().get_mut(&self.name) {
            node.last_seen_at = SystemTime::now();
            change(node);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.note(|node| node.replaced = None);
        self.nodes.0.count_changed.send_replace(());
    }
}

impl Node {
    fn to_wire(&self, head: &impl Fn(&Id, Namespace) -> u64) -> v1::Node {
        let greeting = &self.greeting;
        let lag = |ns, held| head(&greeting.environment, ns).saturating_sub(held);
        v1::Node {
            node_id: greeting.node_id.clone(),
            environment: greeting.environment.to_string(),
            version: greeting.version.clone(),
            boot_id: greeting.boot_id.clone(),
            connected: self.replaced.is_some(),
            connected_at: Some(self.connected_at.into()),
            last_seen_at: Some(self.last_seen_at.into()),
            keys_revision: greeting.keys_revision,
            config_revision: greeting.config_revision,
            keys_lag: lag(Namespace::Keys, greeting.keys_revision),
            config_lag: lag(Namespace::Config, greeting.config_revision),
            last_nack: self.last_nack.clone(),
            events_produced: self.status.events_produced,
            events_dropped: self.status.events_dropped,
            limits_state: self.status.limits_state.clone(),
        }
    }
}

fn is_forgotten(node: &Node, now: SystemTime) -> bool {
    now.duration_since(node.last_seen_at).is_ok_and(|since| since > REMEMBERED)
}

fn describe(error: &EntityError) -> String {
    let kind = match error.kind() {
        EntityKind::Key => "key",
        EntityKind::Route => "route",
        EntityKind::Upstream => "upstream",
        EntityKind::Settings => "settings",
        EntityKind::Unspecified => return error.message.clone(),
    };
    format!("{kind} {}: {}: {}", error.id, error.field, error.message)
}
