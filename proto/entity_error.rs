//! How a fault of one entity is told: the same in the log of its node and in the list of nodes.

use std::fmt;

use crate::node::v1::{EntityError, EntityKind};

impl fmt::Display for EntityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind() {
            EntityKind::Key => "key",
            EntityKind::Route => "route",
            EntityKind::Upstream => "upstream",
            EntityKind::Settings => "settings",
            EntityKind::Plan => "plan",
            // Of no entity, but of the revision as a whole.
            EntityKind::Unspecified => return f.write_str(&self.message),
        };
        write!(f, "{kind} {}: {}: {}", self.id, self.field, self.message)
    }
}
