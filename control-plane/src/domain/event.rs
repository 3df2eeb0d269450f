//! Audit events on their way into the store and out of it.

use std::time::SystemTime;

use fastgate::{admin::v1::LogEvent, model::Id};

/// Events of one boot of one node. Batches of a boot come in order, so one that begins before the
/// end of what is stored of it has come before.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EventBatch {
    pub(crate) node_id: String,
    pub(crate) boot_id: String,
    pub(crate) environment: Id,
    pub(crate) first_seq: u64,
    /// May be empty where there are gaps.
    pub(crate) events: Vec<LogEvent>,
    pub(crate) gaps: Vec<EventGap>,
}

/// Events a node recorded and lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EventGap {
    /// Events of the boot before them.
    pub(crate) first_seq: u64,
    /// How many there are.
    pub(crate) events: u64,
    pub(crate) reason: String,
}

/// Which events to list.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EventFilter {
    pub(crate) environment: Id,
    /// From this time on.
    pub(crate) from: SystemTime,
    /// Before this time.
    pub(crate) until: SystemTime,
    pub(crate) matching: EventMatch,
}

/// What events must be like; absent fields ask nothing.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct EventMatch {
    pub(crate) key_id: Option<String>,
    pub(crate) source_path: Option<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) path_contains: Option<String>,
    pub(crate) method: Option<String>,
    /// First and last status, both included.
    pub(crate) status: Option<(u16, u16)>,
    pub(crate) request_id: Option<String>,
    pub(crate) route_id: Option<String>,
    pub(crate) target_url: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent_contains: Option<String>,
    pub(crate) node_id: Option<String>,
    pub(crate) rate_limited: Option<bool>,
    pub(crate) secret_version: Option<u32>,
    pub(crate) min_attempts: Option<u32>,
    pub(crate) min_response_time_ms: Option<f64>,
    pub(crate) min_upstream_time_ms: Option<f64>,
    pub(crate) min_ttfb_ms: Option<f64>,
    pub(crate) min_request_size: Option<u64>,
    pub(crate) min_response_size: Option<u64>,
}

/// Where an event stands in a list: by time, then by the number it got when it was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventPosition {
    /// Microseconds since 1970.
    pub(crate) at_us: i64,
    pub(crate) id: i64,
}
