//! A revision of the config, as people look back at it.

use std::time::SystemTime;

use fastgate::node::v1::EntityKind;

/// Who made a revision, when, and of what.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    pub(crate) at: SystemTime,
    pub(crate) token_id: String,
    /// The RPC; empty where that was not noted yet.
    pub(crate) action: String,
    pub(crate) touched: Vec<Touched>,
}

/// An object that a revision changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Touched {
    pub(crate) kind: EntityKind,
    pub(crate) id: String,
    pub(crate) change: ChangeKind,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChangeKind {
    Created,
    Updated,
    Deleted,
}
