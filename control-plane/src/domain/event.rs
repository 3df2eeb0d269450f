//! Audit events on their way into the store and out of it.

use std::time::SystemTime;

use fastgate::{admin::v1::LogEvent, audit::EventMatch, model::Id};

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
    /// Counted like those, and not kept: their routes record a sample.
    pub(crate) counted: Vec<LogEvent>,
    pub(crate) gaps: Vec<EventGap>,
}

impl EventBatch {
    /// How many events there are, those that are counted alone included.
    pub(crate) fn len(&self) -> u64 {
        self.events.len() as u64 + self.counted.len() as u64
    }

    /// Whether it tells of gaps alone.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
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

/// Some of a list of events.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<(EventPosition, LogEvent)>,
    /// How many of those asked for follow, as they are too large to be on one page with these.
    pub(crate) left_out: u64,
}

/// Where an event stands in a list: by time, then by the number it got when it was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventPosition {
    /// Microseconds since 1970.
    pub(crate) at_us: i64,
    pub(crate) id: i64,
}
