//! A change: what one admin call writes, in one transaction, as at most one revision a namespace.

use std::{fmt, sync::Arc, time::SystemTime};

use fastgate::model::Id;

use super::{ApiKey, Environment, Namespace, Plan, Route, Stored, Upstream};

/// Everything one admin call writes to one environment.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) environment: Id,
    pub(crate) actor: Actor,
    /// The RPC, such as `fastgate.admin.v1.KeyService/CreateKey`.
    pub(crate) action: &'static str,
    /// Where the caller may repeat the call: kept for a day.
    pub(crate) repeatable: Option<Repeatable>,
    /// In this order; all or none.
    pub(crate) ops: Vec<Op>,
    /// Where its only op puts what was made of an object that others may have changed since: how that is
    /// made of what is there instead. Without it such a change is stale.
    pub(crate) rework: Option<Rework>,
    /// Runs every check, then rolls back.
    pub(crate) validate_only: bool,
}

/// Makes the op of an update anew, of the object as it is when the update is written; `None`: there is nothing
/// to write, or this object can't be updated so.
#[derive(Clone)]
pub(crate) struct Rework(Arc<dyn Fn(Object) -> Option<Op> + Send + Sync>);

/// An object of any kind.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Object {
    Key(Stored<ApiKey>),
    Route(Box<Stored<Route>>),
    Upstream(Stored<Upstream>),
    Plan(Stored<Plan>),
    Environment(Stored<Environment>),
}

/// What a call is known by when it comes again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CallId {
    /// The RPC, such as `fastgate.admin.v1.KeyService/CreateKey`.
    pub(crate) action: &'static str,
    /// Chosen by the caller.
    pub(crate) request_id: String,
    /// A hash of all the call asks for: another call with the same id is refused.
    pub(crate) fingerprint: [u8; 32],
}

/// A call that is answered the same way when it comes again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Repeatable {
    pub(crate) call: CallId,
    /// The encoded answer, without what only the commit makes known.
    pub(crate) answer: Vec<u8>,
}

/// What an earlier call was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Replay {
    pub(crate) committed: Committed,
    /// As in [`Repeatable`].
    pub(crate) answer: Vec<u8>,
}

/// Who changes something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Actor {
    pub(crate) token_id: String,
}

/// One write. Puts create or replace, as [`Expect`] says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Op {
    PutKey(ApiKey, Expect),
    DeleteKey(Id, Expect),
    PutRoute(Box<Route>, Expect),
    DeleteRoute(Id, Expect),
    PutUpstream(Box<Upstream>, Expect),
    DeleteUpstream(Id, Expect),
    PutPlan(Box<Plan>, Expect),
    /// Deletes a plan, which no key may be on.
    DeletePlan(Id, Expect),
    /// Its id is the change's environment. Creating it creates its revisions, with a new epoch.
    PutEnvironment(Environment, Expect),
    /// Deletes the change's environment, which must be empty.
    DeleteEnvironment(Expect),
}

impl Rework {
    pub(crate) fn new(make: impl Fn(Object) -> Option<Op> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn of(&self, object: Object) -> Option<Op> {
        (self.0)(object)
    }
}

impl fmt::Debug for Rework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rework")
    }
}

impl Op {
    /// Where it makes a revision.
    pub(crate) fn namespace(&self) -> Namespace {
        match self {
            Self::PutKey(..) | Self::DeleteKey(..) => Namespace::Keys,
            Self::PutRoute(..)
            | Self::DeleteRoute(..)
            | Self::PutUpstream(..)
            | Self::DeleteUpstream(..)
            | Self::PutPlan(..)
            | Self::DeletePlan(..)
            | Self::PutEnvironment(..)
            | Self::DeleteEnvironment(_) => Namespace::Config,
        }
    }
}

/// What must be in the store for a write to go ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expect {
    /// Nothing yet: the write creates.
    Absent,
    /// The object, whatever its state.
    Present,
    /// The object with this etag.
    Etag(String),
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Committed(Committed),
    /// The same call was committed before.
    Replayed(Replay),
}

/// A committed change (or, with `validate_only`, what it would have been).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Committed {
    pub(crate) at: SystemTime,
    /// The new revision of `keys`, where the change touched it.
    pub(crate) keys_revision: Option<u64>,
    /// The new revision of `config`, where the change touched it.
    pub(crate) config_revision: Option<u64>,
    /// The new etag of each op's object; empty for deletes.
    pub(crate) etags: Vec<String>,
}

impl Committed {
    /// The new etag of the only object of a change.
    pub(crate) fn etag(&self) -> String {
        self.etags.first().cloned().unwrap_or_default()
    }
}
