//! How a fault of one entity is told: the same in the log of its node and in the list of nodes.

use std::fmt;

use crate::node::v1::{EntityError, EntityKind};

impl EntityKind {
    /// What people call one of this kind; empty for what is of no entity, but of a whole revision.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::Settings => "settings",
            Self::Plan => "plan",
            Self::Unspecified => "",
        }
    }
}

impl fmt::Display for EntityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind().noun() {
            "" => f.write_str(&self.message),
            noun => write!(f, "{noun} {}: {}: {}", self.id, self.field, self.message),
        }
    }
}
