//! The nodes of the other replicas, as far as these told.

use std::{collections::HashMap, time::Duration};

use fastgate::{admin::v1::Node, model::Id};
use prost_types::Timestamp;

use super::{Name, REMEMBERED};
use crate::store::SaidNode;

/// A node of which its replica has said nothing for this long does not count: it went, or the replica
/// did. Enough for a few times in vain.
pub(super) const STALE: Duration = Duration::from_secs(10);

/// The nodes of the other replicas. Those that may be gone are not connected.
#[derive(Default)]
pub(super) struct Elsewhere(HashMap<Name, Node>);

impl Elsewhere {
    /// What the other replicas said last. `leniently`: the store was away, so that nobody could say
    /// anything; who was connected before that is so still.
    pub(super) fn of(said: Vec<SaidNode>, before: &Self, leniently: bool) -> Self {
        let mut nodes: HashMap<Name, Node> = HashMap::new();
        for SaidNode { mut node, age } in said {
            let Ok(environment) = Id::parse(&node.environment) else { continue };
            let name = (environment, node.node_id.clone());
            let was_connected = before.0.get(&name).is_some_and(|before| before.connected);
            node.connected &= age <= STALE || (leniently && was_connected);
            let is_best = nodes.get(&name).is_none_or(|other| rank(&node) > rank(other));
            if age <= REMEMBERED && is_best {
                nodes.insert(name, node);
            }
        }
        Self(nodes)
    }

    pub(super) fn is_connected(&self, name: &Name) -> bool {
        self.0.get(name).is_some_and(|node| node.connected)
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter(|(_, node)| node.connected).map(|(name, _)| name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.0.iter()
    }
}

/// Of two replicas that know a node, that of the higher rank knows where it is now.
pub(super) fn rank(node: &Node) -> (bool, i64, i32) {
    let at = if node.connected { &node.connected_at } else { &node.last_seen_at };
    let Timestamp { seconds, nanos } = at.unwrap_or_default();
    (node.connected, seconds, nanos)
}
