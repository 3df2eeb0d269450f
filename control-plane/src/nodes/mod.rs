//! The nodes that follow a control plane, and those that did until an hour ago.
//!
//! Each replica knows its own from their streams and tells the others of them through the store, see
//! [`share`](Nodes::share). Whatever becomes of that, its own are always counted.

mod ask;
mod elsewhere;
mod refusal;
mod share;

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1,
    digest::Digest,
    durations::Counts,
    model::{Id, Labels},
    node::v1::{Nack, Status},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::ask::{Questions, Unanswered};
use self::{
    ask::{Mailbox, mailbox},
    elsewhere::Elsewhere,
    refusal::{Refusals, told},
};
use crate::domain::Namespace;

/// How long a node that went is remembered.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// Nodes known at once, connected or not.
const NODES: usize = 10_000;

/// Characters of what a node says of itself.
const TEXT: usize = 128;

/// What a node may say of its limits.
const LIMITS_STATES: [&str; 3] = ["redis", "local", "fallback"];

/// A shared list of nodes.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when a count changed.
    count_changed: watch::Sender<()>,
    /// Told when a node comes here or goes.
    came_or_went: Notify,
}

#[derive(Default)]
struct State {
    here: HashMap<Name, Node>,
    elsewhere: Elsewhere,
    /// Connected nodes of each environment, here or elsewhere: kept up with both, for every node is
    /// told every second.
    counts: HashMap<Id, u32>,
}

impl State {
    /// Enters a node that connected here; whether that changed the count.
    fn enter(&mut self, name: Name, node: Node) -> bool {
        let is_news = !self.is_connected(&name);
        if is_news {
            *self.counts.entry(name.0.clone()).or_default() += 1;
        }
        if let Some(Node { replaced: Some(older), .. }) = self.here.insert(name, node) {
            older.cancel();
        }
        is_news
    }

    /// Notes that a node that was connected here went; whether that changed the count.
    fn leave(&mut self, name: &Name) -> bool {
        if let Some(node) = self.here.get_mut(name) {
            node.replaced = None;
            node.last_seen_at = SystemTime::now();
        }
        let is_news = !self.is_connected(name);
        if is_news && let Some(count) = self.counts.get_mut(&name.0) {
            *count = count.saturating_sub(1);
        }
        is_news
    }

    /// Takes in what is elsewhere now; whether that changed a count.
    fn hear(&mut self, elsewhere: Elsewhere) -> bool {
        self.elsewhere = elsewhere;
        let here = self.here.iter().filter(|(_, node)| node.is_connected()).map(|(name, _)| name);
        let is_here = |name: &&Name| self.here.get(*name).is_some_and(Node::is_connected);
        let only_elsewhere = self.elsewhere.connected().filter(|name| !is_here(name));
        let mut counts = HashMap::new();
        for (environment, _) in here.chain(only_elsewhere) {
            *counts.entry(environment.clone()).or_default() += 1;
        }
        self.counts.retain(|_, count| *count > 0);
        let is_news = self.counts != counts;
        self.counts = counts;
        is_news
    }

    fn is_connected(&self, name: &Name) -> bool {
        self.here.get(name).is_some_and(Node::is_connected) || self.elsewhere.is_connected(name)
    }
}

type Name = (Id, String);

struct Node {
    greeting: Greeting,
    connected_at: SystemTime,
    last_seen_at: SystemTime,
    /// Cancelled when a newer stream of the same node takes over; tells whose the entry is.
    replaced: Option<CancellationToken>,
    last_nack: String,
    refusals: Refusals,
    reported: Reported,
    /// `None`: it can't be asked.
    mailbox: Option<Mailbox>,
}

/// What is kept of a node's status.
#[derive(Default)]
struct Reported {
    events_produced: u64,
    events_dropped: u64,
    events_stored: u64,
    events_spooled: u64,
    events_left: u64,
    spool_bytes: u64,
    spool_limit: u64,
    spool_full: bool,
    limits_state: &'static str,
    health: Option<v1::NodeHealth>,
    health_before: Option<v1::NodeHealth>,
}

/// How a node introduces itself.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) environment: Id,
    pub(crate) node_id: String,
    pub(crate) boot_id: String,
    pub(crate) version: String,
    /// When its process did.
    pub(crate) started_at: SystemTime,
    pub(crate) keys: Acked,
    pub(crate) config: Acked,
    pub(crate) answers_questions: bool,
    /// What rollouts tell it apart by.
    pub(crate) labels: Labels,
    /// What it refused before, and still does.
    pub(crate) refused: Vec<Nack>,
    /// When the certificate ends that it showed; `None`: it showed none.
    pub(crate) certificate_ends: Option<SystemTime>,
}

/// What a node holds of a namespace, as far as it said.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Acked {
    pub(crate) revision: u64,
    /// `None`: it holds nothing that is known here.
    pub(crate) digest: Option<Digest>,
}

/// A connected node's hold on its entry: dropped, the node counts as gone.
pub(crate) struct Lease {
    nodes: Nodes,
    name: Name,
    replaced: CancellationToken,
}

impl Nodes {
    /// Enters a node. A stream it had before is told to end. `None`: there are too many.
    pub(crate) fn connect(&self, mut greeting: Greeting) -> Option<(Lease, Questions)> {
        let now = SystemTime::now();
        let refused = mem::take(&mut greeting.refused);
        let name = (greeting.environment.clone(), greeting.node_id.clone());
        let replaced = CancellationToken::new();
        let mut state = self.state();
        let nodes = &mut state.here;
        nodes.retain(|_, node| !node.is_gone(now));
        if nodes.len() >= NODES && !nodes.contains_key(&name) {
            // Memory of nodes that went must not keep a live one out.
            nodes.retain(|_, node| node.is_connected());
        }
        if nodes.len() >= NODES && !nodes.contains_key(&name) {
            return None;
        }
        let (mailbox, questions) = mailbox();
        let node = Node {
            mailbox: greeting.answers_questions.then_some(mailbox),
            connected_at: now,
            last_seen_at: now,
            replaced: Some(replaced.clone()),
            last_nack: refused.first().map(told).unwrap_or_default(),
            refusals: refused.iter().collect(),
            reported: Reported::default(),
            greeting,
        };
        let is_news = state.enter(name.clone(), node);
        drop(state);
        self.tell_of_one(is_news);
        Some((Lease { nodes: self.clone(), name, replaced }, questions))
    }

    /// Connected nodes of an environment, over all replicas: at least 1, for whoever asks divides
    /// by it.
    pub(crate) fn count(&self, environment: &Id) -> u32 {
        self.state().counts.get(environment).copied().unwrap_or(0).max(1)
    }

    /// Told whenever [`Nodes::count`] may have changed.
    pub(crate) fn count_changes(&self) -> watch::Receiver<()> {
        self.0.count_changed.subscribe()
    }

    /// All nodes of all replicas, by environment and id; `head` says how far each could be.
    pub(crate) fn list(
        &self,
        environment: Option<&Id>,
        head: impl Fn(&Id, Namespace) -> u64,
    ) -> Vec<v1::Node> {
        let now = SystemTime::now();
        let state = self.state();
        let here = state.here.iter().filter(|(_, node)| !node.is_gone(now));
        let mut named: BTreeMap<&Name, v1::Node> =
            here.map(|(name, node)| (name, node.to_wire())).collect();
        for (name, node) in state.elsewhere.iter() {
            // One that moved is shown where it is now.
            if named.get(name).is_none_or(|here| elsewhere::rank(node) > elsewhere::rank(here)) {
                named.insert(name, node.clone());
            }
        }
        let asked = |(of, _): &Name| environment.is_none_or(|environment| environment == of);
        let named = named.into_iter().filter(|(name, _)| asked(name));
        // What another replica told of a node is seconds old, and this one's head is not.
        let is_of_then = |name: &Name, node: &v1::Node| {
            node.connected && state.here.get(name).is_none_or(|here| !here.is_connected())
        };
        let shown = named.map(|(name, node)| match is_of_then(name, &node) {
            true => node,
            false => with_lag(node, &name.0, &head),
        });
        shown.collect()
    }

    /// The nodes of an environment that are connected here, by id; and where questions are put to each,
    /// if it can be asked.
    fn connected(&self, environment: &Id) -> Vec<(String, Option<Mailbox>)> {
        let state = self.state();
        let here =
            state.here.iter().filter(|((of, _), node)| of == environment && node.is_connected());
        let mut connected: Vec<_> =
            here.map(|((_, id), node)| (id.clone(), node.mailbox.clone())).collect();
        connected.sort_by(|(one, _), (other, _)| one.cmp(other));
        connected
    }

    /// Tells who waits that a node came here or went, and whether that is news to the count.
    fn tell_of_one(&self, is_news: bool) {
        if is_news {
            self.0.count_changed.send_replace(());
        }
        self.0.came_or_went.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    pub(crate) fn acked(&self, ns: Namespace, acked: Acked) {
        self.note(|node| {
            match ns {
                Namespace::Keys => node.greeting.keys = acked,
                Namespace::Config => node.greeting.config = acked,
            }
            node.refusals.get_over(ns, acked.revision);
        });
    }

    pub(crate) fn nacked(&self, nack: &Nack) {
        self.note(|node| {
            node.last_nack = told(nack);
            node.refusals.add(nack);
        });
    }

    pub(crate) fn status(&self, status: &Status) {
        let limits_state = LIMITS_STATES.into_iter().find(|state| *state == status.limits_state);
        self.note(|node| {
            node.reported = Reported {
                events_produced: status.events_produced,
                events_dropped: status.events_dropped,
                events_stored: status.events_stored,
                events_spooled: status.events_spooled,
                events_left: status.events_left,
                spool_bytes: status.spool_bytes,
                spool_limit: status.spool_limit,
                spool_full: status.spool_full,
                limits_state: limits_state.unwrap_or_default(),
                health: status.health.as_ref().map(bounded),
                health_before: status.health_before.as_ref().map(bounded),
            };
        });
    }

    fn note(&self, change: impl FnOnce(&mut Node)) {
        let mut state = self.nodes.state();
        // Under the lock: a newer stream that takes over just now must not be written to.
        if self.replaced.is_cancelled() {
            return;
        }
        if let Some(node) = state.here.get_mut(&self.name) {
            node.last_seen_at = SystemTime::now();
            change(node);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.nodes.state();
        // The entry of a node that is back already is that of its newer stream.
        if self.replaced.is_cancelled() {
            return;
        }
        let is_news = state.leave(&self.name);
        drop(state);
        self.nodes.tell_of_one(is_news);
    }
}

impl Node {
    fn is_connected(&self) -> bool {
        self.replaced.is_some()
    }

    /// Whether it went so long ago that it is forgotten.
    fn is_gone(&self, now: SystemTime) -> bool {
        let is_long_ago = |since| since > REMEMBERED;
        !self.is_connected() && now.duration_since(self.last_seen_at).is_ok_and(is_long_ago)
    }

    /// How it is listed, without its lag.
    fn to_wire(&self) -> v1::Node {
        let greeting = &self.greeting;
        v1::Node {
            node_id: greeting.node_id.clone(),
            environment: greeting.environment.to_string(),
            version: greeting.version.clone(),
            boot_id: greeting.boot_id.clone(),
            connected: self.is_connected(),
            connected_at: Some(self.connected_at.into()),
            last_seen_at: Some(self.last_seen_at.into()),
            keys_revision: greeting.keys.revision,
            config_revision: greeting.config.revision,
            keys_lag: 0,
            config_lag: 0,
            last_nack: self.last_nack.clone(),
            refusal: self.refusals.shown(),
            labels: greeting.labels.written().collect(),
            health: self.reported.health.clone(),
            health_before: self.reported.health_before.clone(),
            events_produced: self.reported.events_produced,
            events_dropped: self.reported.events_dropped,
            events_stored: self.reported.events_stored,
            events_spooled: self.reported.events_spooled,
            events_left: self.reported.events_left,
            spool_bytes: self.reported.spool_bytes,
            spool_limit: self.reported.spool_limit,
            spool_full: self.reported.spool_full,
            limits_state: self.reported.limits_state.to_owned(),
            started_at: Some(greeting.started_at.into()),
            keys_digest: greeting.keys.digest.map(|digest| digest.to_string()).unwrap_or_default(),
            config_digest: greeting.config.digest.map(|d| d.to_string()).unwrap_or_default(),
            // Compared by whoever holds the same.
            digests: String::new(),
            certificate_expires_at: greeting.certificate_ends.map(Into::into),
        }
    }
}

/// With how far it is behind.
fn with_lag(mut node: v1::Node, of: &Id, head: impl Fn(&Id, Namespace) -> u64) -> v1::Node {
    node.keys_lag = head(of, Namespace::Keys).saturating_sub(node.keys_revision);
    node.config_lag = head(of, Namespace::Config).saturating_sub(node.config_revision);
    node
}

/// What a node says of its requests, of which there may be more than is understood.
fn bounded(health: &v1::NodeHealth) -> v1::NodeHealth {
    let durations = health.durations.iter().take(Counts::default().len()).copied().collect();
    v1::NodeHealth { durations, ..*health }
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

#[cfg(test)]
mod tests;
