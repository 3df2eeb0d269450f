//! What the control plane keeps: validated values, no I/O.

mod change;
mod event;
mod histogram;
mod joining;
mod object;
mod recorded;
mod revision;
mod rollout;
mod rollup;
mod selector;
mod token;
pub(crate) mod varint;

pub(crate) use change::{
    Actor, CallId, Change, Committed, Expect, Object, Op, Outcome, Repeatable, Replay, Rework,
};
pub(crate) use event::{EventBatch, EventFilter, EventGap, EventPage, EventPosition};
pub(crate) use histogram::Histogram;
pub(crate) use joining::{Issued, JoinToken};
pub(crate) use object::{
    ApiKey, ApiSecret, Environment, Namespace, Plan, Route, Stored, Upstream, Usage,
};
pub(crate) use recorded::{put_recorded, recorded_of};
pub(crate) use revision::{ChangeKind, Revision, Touched};
pub(crate) use rollout::{Rollout, RolloutPolicy, RolloutPosition, RolloutState};
pub(crate) use rollup::{Kind, Metrics, MetricsQuery, Rollup, Step, Sums, Total};
pub(crate) use selector::Selector;
pub(crate) use token::{Role, Token};
