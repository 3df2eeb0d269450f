//! What the control plane keeps: validated values, no I/O.

mod change;
mod event;
mod object;
mod token;

pub(crate) use change::{
    Actor, CallId, Change, Committed, Expect, Op, Outcome, Repeatable, Replay,
};
pub(crate) use event::{EventBatch, EventFilter};
pub(crate) use object::{
    ApiKey, ApiSecret, Environment, Namespace, Plan, Route, Stored, Upstream, Usage,
};
pub(crate) use token::{Role, Token};
