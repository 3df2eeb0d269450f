//! Audit events on their way into the store and out of it.

use std::time::SystemTime;

use fastgate::{admin::v1::LogEvent, model::Id};

/// Events of one boot of one node, numbered without gaps. Stored once, however often it comes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EventBatch {
    pub(crate) node_id: String,
    pub(crate) boot_id: String,
    pub(crate) environment: Id,
    pub(crate) first_seq: u64,
    pub(crate) events: Vec<LogEvent>,
}

/// Which events to list; absent fields ask nothing.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EventFilter {
    pub(crate) environment: Id,
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
    pub(crate) key_id: Option<String>,
    pub(crate) source_path: Option<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) method: Option<String>,
    /// First and last status, both included.
    pub(crate) status: Option<(u16, u16)>,
    pub(crate) request_id: Option<String>,
    pub(crate) route_id: Option<String>,
}
