//! Admin tokens and their roles.

use std::time::{Duration, SystemTime};

use fastgate::secret::SecretHash;

/// An admin token without its value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Token {
    pub(crate) token_id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) hash: SecretHash,
    pub(crate) created_at: SystemTime,
    pub(crate) expires_at: SystemTime,
}

impl Token {
    /// How long a token holds where nobody says; of the first one, time enough to make others.
    pub(crate) const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
}

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Role {
    /// Reads everything but logs and tokens.
    Viewer,
    /// A viewer who also reads logs and admin events.
    Auditor,
    /// A viewer who also changes keys.
    KeyManager,
    /// Changes keys, routes, upstreams, plans and environments; lets nodes in; reads logs.
    Operator,
    /// Everything, tokens included.
    Owner,
}

impl Role {
    /// The name on the wire and in the store.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
            Self::KeyManager => "key_manager",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }

    /// Reads a name; `None` when there is no such role.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Auditor, Self::KeyManager, Self::Operator, Self::Owner]
            .into_iter()
            .find(|role| role.name() == name)
    }
}
