//! A batch taken apart into events, each with an id of its own.

use fastgate::{admin::v1::LogEvent, event::json_fields, node::v1::Batch};
use prost::{DecodeError, Message as _};

use crate::audit::batch::Sealed;

/// Events of one boot of one node, in their order.
pub(super) struct Events {
    pub(super) node_id: String,
    pub(super) boot_id: String,
    pub(super) environment: String,
    /// Events of the boot before them.
    first_seq: u64,
    events: Vec<LogEvent>,
}

impl Events {
    pub(super) fn decode(batch: &Sealed) -> Result<Self, DecodeError> {
        let Batch { node_id, boot_id, environment, first_seq, events, .. } =
            Batch::decode(batch.encoded.clone())?;
        Ok(Self { node_id, boot_id, environment, first_seq, events })
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// From this one on, each with its place.
    pub(super) fn from(&self, first: usize) -> impl Iterator<Item = (usize, &LogEvent)> {
        self.events.iter().enumerate().skip(first)
    }

    /// A number of an event in its boot that no other one has. Those that are to be counted alone go
    /// nowhere from here: theirs, behind the others of their batch, are missing.
    pub(super) fn seq(&self, at: usize) -> u64 {
        self.first_seq + at as u64
    }

    /// What names an event, and no other one: node, boot and number.
    pub(super) fn id(&self, at: usize) -> String {
        format!("{}/{}/{}", self.node_id, self.boot_id, self.seq(at))
    }

    /// Writes an event as a line of JSON, without its end: what the control plane exports, and what
    /// names it.
    pub(super) fn write_line(&self, at: usize, event: &LogEvent, out: &mut String) {
        out.push('{');
        json_fields(event, out);
        // Both are made by the node and need no escape.
        out.push_str(&format!(",\"boot_id\":\"{}\",\"seq\":{}}}", self.boot_id, self.seq(at)));
    }
}
