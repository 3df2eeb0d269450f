//! Who this node is, as it says on every stream.

use fastgate::{identity::NodeName, model::Id};
use uuid::Uuid;

/// Who this node is, from its start to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// Chosen by the operator, the same after a restart.
    pub(crate) node_id: Id,
    /// New at every start of the process.
    pub(crate) boot_id: Uuid,
    /// The environment it serves.
    pub(crate) environment: Id,
}

impl Identity {
    /// The version of this program.
    pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The identity of a process that starts now.
    pub(crate) fn of_this_boot(environment: Id, node_id: Id) -> Self {
        Self { node_id, boot_id: Uuid::now_v7(), environment }
    }

    /// What its certificate must say.
    pub(crate) fn name(&self) -> NodeName {
        NodeName { environment: self.environment.clone(), node_id: self.node_id.clone() }
    }
}
