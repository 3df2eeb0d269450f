//! What nodes join with, and what they get.

use std::time::{Duration, SystemTime};

use fastgate::{
    identity::{Fingerprint, NodeName, Serial},
    model::Id,
    secret::SecretHash,
};

/// A join token that was not used yet, without its value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JoinToken {
    pub(crate) token_id: String,
    pub(crate) hash: SecretHash,
    pub(crate) environment: Id,
    /// The only node that may use it; `None`: any.
    pub(crate) node_id: Option<Id>,
    pub(crate) created_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}

impl JoinToken {
    /// How long a token holds where nobody says: time enough to start a node.
    pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
    /// At most.
    pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 86_400);
    /// How long a node may ask again with the key it joined with: the answer may have been lost.
    pub(crate) const REPEATABLE: Duration = Duration::from_secs(600);

    /// Whether this node may use it.
    pub(crate) fn is_for(&self, node: &NodeName) -> bool {
        self.environment == node.environment
            && self.node_id.as_ref().is_none_or(|only| *only == node.node_id)
    }
}

/// A certificate as it is kept: enough to refuse it later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Issued {
    pub(crate) serial: Serial,
    pub(crate) node: NodeName,
    /// The node's key.
    pub(crate) key: Fingerprint,
    pub(crate) issued_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}
