//! The nodes that follow this control plane, and those that did until an hour ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1,
    model::Id,
    node::v1::{Nack, Status},
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

/// Characters of a refusal that are told.
const NACK: usize = 1024;

/// Characters of what a node says of itself.
const TEXT: usize = 128;

/// What a node may say of its limits.
const LIMITS_STATES: [&str; 3] = ["redis", "local", "fallback"];

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
    reported: Reported,
}

/// What is kept of a node's status.
#[derive(Default)]
struct Reported {
    events_produced: u64,
    events_dropped: u64,
    limits_state: &'static str,
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
            // Memory of nodes that went must not keep a live one out.
            nodes.retain(|_, node| node.replaced.is_some());
        }
        if nodes.len() >= NODES && !nodes.contains_key(&name) {
            return None;
        }
        let node = Node {
            greeting,
            connected_at: now,
            last_seen_at: now,
            replaced: Some(replaced.clone()),
            last_nack: String::new(),
            reported: Reported::default(),
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
        let told: Vec<_> = nack.errors.iter().take(TOLD).map(ToString::to_string).collect();
        let mut told = format!("revision {}: {}", nack.revision, told.join("; "));
        if let Some((end, _)) = told.char_indices().nth(NACK) {
            told.truncate(end);
            told.push('…');
        }
        self.note(|node| node.last_nack = told);
    }

    pub(crate) fn status(&self, status: &Status) {
        let limits_state = LIMITS_STATES.into_iter().find(|state| *state == status.limits_state);
        self.note(|node| {
            node.reported = Reported {
                events_produced: status.events_produced,
                events_dropped: status.events_dropped,
                limits_state: limits_state.unwrap_or_default(),
            };
        });
    }

    fn note(&self, change: impl FnOnce(&mut Node)) {
        let mut nodes = self.nodes.lock();
        // Under the lock: a newer stream that takes over just now must not be written to.
        if self.replaced.is_cancelled() {
            return;
        }
        if let Some(node) = nodes.get_mut(&self.name) {
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
            events_produced: self.reported.events_produced,
            events_dropped: self.reported.events_dropped,
            limits_state: self.reported.limits_state.to_owned(),
        }
    }
}

/// Reads what a node says of itself on any stream: its environment, and names that fit a log line.
pub(crate) fn check_names(environment: &str, names: &[(&str, &str)]) -> Result<Id, tonic::Status> {
    let refuse = |field: &str, fault: &str| {
        Err(tonic::Status::invalid_argument(format!("{field}: {fault}")))
    };
    for (field, text) in names {
        if text.is_empty() || text.len() > TEXT || text.chars().any(char::is_control) {
            let fault = format!("must be 1 to {TEXT} characters without control characters");
            return refuse(field, &fault);
        }
    }
    Id::parse(environment).or_else(|fault| refuse("environment", &fault))
}

fn is_forgotten(node: &Node, now: SystemTime) -> bool {
    now.duration_since(node.last_seen_at).is_ok_and(|since| since > REMEMBERED)
}

#[cfg(test)]
mod tests {
    use fastgate::node::v1::{EntityError, EntityKind};

    use super::*;

    fn greeting(environment: &str, node_id: &str) -> Greeting {
        Greeting {
            environment: id(environment),
            node_id: node_id.into(),
            boot_id: "boot-1".into(),
            version: "1.0.0".into(),
            keys_revision: 3,
            config_revision: 4,
        }
    }

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn list(nodes: &Nodes) -> Vec<v1::Node> {
        nodes.list(None, |_, ns| if ns == Namespace::Keys { 10 } else { 20 })
    }

    fn age(nodes: &Nodes, node_id: &str, by: Duration) {
        let name = (id("default"), node_id.to_owned());
        nodes.lock().get_mut(&name).expect("is there").last_seen_at -= by;
    }

    #[test]
    fn a_node_counts_as_long_as_its_lease_is_held() {
        let nodes = Nodes::default();
        assert_eq!(nodes.count(&id("default")), 1, "who divides by it counts itself");
        let first = nodes.connect(greeting("default", "n1")).expect("room");
        let _second = nodes.connect(greeting("default", "n2")).expect("room");
        let _elsewhere = nodes.connect(greeting("staging", "n1")).expect("room");
        assert_eq!((nodes.count(&id("default")), nodes.count(&id("staging"))), (2, 1));
        drop(first);
        assert_eq!(nodes.count(&id("default")), 1);
        let connected: Vec<_> = list(&nodes)
            .into_iter()
            .map(|node| (node.environment, node.node_id, node.connected))
            .collect();
        let expected = [("default", "n1", false), ("default", "n2", true), ("staging", "n1", true)];
        assert_eq!(connected, expected.map(|(e, n, is)| (e.to_owned(), n.to_owned(), is)));
    }

    #[tokio::test]
    async fn the_newest_stream_of_a_node_is_the_one_that_counts() {
        let nodes = Nodes::default();
        let older = nodes.connect(greeting("default", "n1")).expect("room");
        let newer = nodes.connect(greeting("default", "n1")).expect("room");
        tokio::time::timeout(Duration::from_secs(1), older.replaced()).await.expect("is told");
        older.acked(Namespace::Keys, 9);
        older.status(&Status { events_produced: 7, ..Status::default() });
        drop(older);
        let listed = list(&nodes).remove(0);
        assert!(listed.connected, "the end of the older stream is not the node's");
        assert_eq!((listed.keys_revision, listed.events_produced), (3, 0));
        drop(newer);
        assert!(!list(&nodes)[0].connected);
    }

    #[test]
    fn streams_that_take_over_from_each_other_leave_the_last_one_connected() {
        let nodes = Nodes::default();
        for _ in 0..200 {
            let older = nodes.connect(greeting("default", "n1")).expect("room");
            let newer = std::thread::scope(|scope| {
                scope.spawn(move || drop(older));
                nodes.connect(greeting("default", "n1")).expect("room")
            });
            assert!(list(&nodes)[0].connected);
            drop(newer);
        }
    }

    #[test]
    fn what_a_node_says_is_listed() {
        let nodes = Nodes::default();
        let lease = nodes.connect(greeting("default", "n1")).expect("room");
        lease.acked(Namespace::Keys, 8);
        lease.acked(Namespace::Config, 25);
        let error = |kind: EntityKind, id: &str| EntityError {
            kind: kind.into(),
            id: id.into(),
            field: "path".into(),
            message: "is odd".into(),
        };
        let mut errors = vec![error(EntityKind::Route, "a"), error(EntityKind::Unspecified, "")];
        errors.extend((0..9).map(|n| error(EntityKind::Key, &format!("k{n}"))));
        lease.nacked(&Nack { revision: 26, errors, ..Nack::default() });
        let listed = list(&nodes).remove(0);
        assert_eq!((listed.keys_revision, listed.keys_lag), (8, 2));
        assert_eq!((listed.config_revision, listed.config_lag), (25, 0), "it knows more than here");
        assert_eq!(
            listed.last_nack,
            "revision 26: route a: path: is odd; is odd; key k0: path: is odd; \
             key k1: path: is odd; key k2: path: is odd"
        );
    }

    #[test]
    fn a_nack_is_told_at_a_bounded_length() {
        let nodes = Nodes::default();
        let lease = nodes.connect(greeting("default", "n1")).expect("room");
        let message = "\u{e4}".repeat(1 << 20);
        let errors = vec![EntityError { message: message.clone(), ..EntityError::default() }];
        lease.nacked(&Nack { revision: 1, errors, ..Nack::default() });
        lease.status(&Status { limits_state: message, ..Status::default() });
        let listed = list(&nodes).remove(0);
        assert!(
            listed.last_nack.len() <= 2 * NACK + "\u{2026}".len(),
            "{}",
            listed.last_nack.len()
        );
        assert_eq!(listed.limits_state, "", "none of the states there are");
    }

    #[test]
    fn a_node_that_went_is_forgotten_after_an_hour() {
        let nodes = Nodes::default();
        drop(nodes.connect(greeting("default", "gone")).expect("room"));
        let _stays = nodes.connect(greeting("default", "quiet")).expect("room");
        age(&nodes, "gone", REMEMBERED - Duration::from_secs(5));
        age(&nodes, "quiet", REMEMBERED * 2);
        assert_eq!(list(&nodes).len(), 2);
        age(&nodes, "gone", Duration::from_secs(10));
        let left: Vec<_> = list(&nodes).into_iter().map(|node| node.node_id).collect();
        assert_eq!(left, ["quiet"], "connected, so never forgotten");
        assert_eq!(nodes.lock().len(), 2);
        let _next = nodes.connect(greeting("default", "next")).expect("room");
        assert_eq!(nodes.lock().len(), 2, "its memory is given back");
    }

    #[test]
    fn there_is_room_for_so_many_and_always_for_one_known() {
        let nodes = Nodes::default();
        let connect = |n: usize| nodes.connect(greeting("default", &format!("n{n}")));
        let leases: Vec<_> = (0..NODES).map(|n| connect(n).expect("room")).collect();
        assert!(connect(NODES).is_none());
        let again = connect(0);
        assert!(again.is_some());
        drop((leases, again));
        assert!(connect(NODES).is_some(), "who left makes room for who comes");
    }
}
