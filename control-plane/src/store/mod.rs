//! Where the control plane keeps everything: one trait, Postgres in production, SQLite in `fgctl dev`.
//!
//! All config is written by [`Store::commit`]: one transaction that locks the revision of each
//! namespace it touches, checks what only the store can know, writes the objects, the change log
//! and the admin event, and announces the new revision. Commit order is revision order.

mod fault;
mod news;
mod open;
mod postgres;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use fastgate::{
    admin::v1::{AdminEvent, LogGap, Node},
    digest::Digest,
    identity::{Fingerprint, NodeName, Serial},
    model::Id,
    node::v1::Entity,
    secret::SecretHash,
};
use thiserror::Error;

use crate::domain::{
    Actor, ApiKey, CallId, Change, Environment, EventBatch, EventFilter, EventPage, EventPosition,
    Issued, JoinToken, Metrics, MetricsQuery, Namespace, Outcome, Plan, Replay, Revision, Rollout,
    RolloutPosition, Route, Stored, Token, Upstream, Usage,
};

pub(crate) use fault::within;
pub(crate) use news::News;
pub use open::OpenError;
pub(crate) use open::open;

/// A database of the control plane. Both implementations pass the same contract tests.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Writes a change, all or nothing.
    async fn commit(&self, change: &Change) -> Result<Outcome, StoreError>;
    /// What the same call was answered within the last day.
    async fn replay(&self, call: &CallId) -> Result<Option<Replay>, StoreError>;

    async fn key(
        &self,
        environment: &Id,
        key_id: &str,
    ) -> Result<Option<(Stored<ApiKey>, Usage)>, StoreError>;
    /// Those of these keys that are there, in no order.
    async fn keys_named(
        &self,
        environment: &Id,
        key_ids: &[Id],
    ) -> Result<Vec<Stored<ApiKey>>, StoreError>;
    /// Newest first.
    async fn keys(
        &self,
        environment: &Id,
        filter: &KeyFilter,
        page: &Page,
    ) -> Result<Vec<(Stored<ApiKey>, Usage)>, StoreError>;
    async fn route(
        &self,
        environment: &Id,
        route_id: &str,
    ) -> Result<Option<Stored<Route>>, StoreError>;
    /// By id.
    async fn routes(&self, environment: &Id, page: &Page)
    -> Result<Vec<Stored<Route>>, StoreError>;
    async fn upstream(
        &self,
        environment: &Id,
        upstream_id: &str,
    ) -> Result<Option<Stored<Upstream>>, StoreError>;
    /// By id.
    async fn upstreams(
        &self,
        environment: &Id,
        page: &Page,
    ) -> Result<Vec<Stored<Upstream>>, StoreError>;
    async fn plan(
        &self,
        environment: &Id,
        plan_id: &str,
    ) -> Result<Option<Stored<Plan>>, StoreError>;
    /// By id.
    async fn plans(&self, environment: &Id, page: &Page) -> Result<Vec<Stored<Plan>>, StoreError>;
    async fn environment(
        &self,
        environment: &str,
    ) -> Result<Option<Stored<Environment>>, StoreError>;
    /// By id.
    async fn environments(&self, page: &Page) -> Result<Vec<Stored<Environment>>, StoreError>;
    /// What documents are about, as of one revision.
    async fn config(&self, environment: &Id) -> Result<Held, StoreError>;
    /// The same as of a revision, without times and etags of what changed since; `None`: there is no
    /// such revision, or the log does not reach back to it any more.
    async fn config_at(&self, environment: &Id, revision: u64) -> Result<Option<Held>, StoreError>;
    /// The newest revisions of the config before one, newest first, as far as the log reaches back.
    async fn revisions(
        &self,
        environment: &Id,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Revision>, StoreError>;

    /// Every namespace of every environment.
    async fn heads(&self) -> Result<Vec<Head>, StoreError>;
    /// All entities of a namespace with the head they belong to; `None`: no such environment.
    async fn entities(
        &self,
        environment: &Id,
        ns: Namespace,
    ) -> Result<Option<(Head, Vec<Entity>)>, StoreError>;
    /// The entities of the config at a revision, in no order; `None`: there is no such revision, or the log
    /// does not reach back to it. It does to what a rollout under way began from.
    async fn config_entities_at(
        &self,
        environment: &Id,
        revision: u64,
    ) -> Result<Option<Vec<Entity>>, StoreError>;
    /// The revisions after `after`, in order, at most `limit`, and fewer where they are large, but for
    /// the first of them. A gap at the start, where the log no longer reaches back.
    async fn log(
        &self,
        environment: &Id,
        ns: Namespace,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LoggedRevision>, StoreError>;
    /// The rollout under way, or the last one.
    async fn rollout(&self, environment: &Id) -> Result<Option<Rollout>, StoreError>;
    /// Moves a rollout on, with its admin event; false, and nothing is written, where it is no longer at `from`.
    async fn move_rollout(
        &self,
        environment: &Id,
        moves: RolloutMove<'_>,
    ) -> Result<bool, StoreError>;
    /// Takes the rollout to a revision back: commits what it began from, and so ends it. False, and nothing is
    /// written, where it is over.
    async fn undo_rollout(
        &self,
        environment: &Id,
        target: u64,
        actor: &Actor,
    ) -> Result<bool, StoreError>;
    /// Returns when there may be news, from here or from another replica. May return too early, and
    /// may miss news while the database is away: poll as well.
    async fn changed(&self, news: News);

    /// Adds a token, with its admin event.
    async fn create_token(&self, token: &Token, actor: &Actor) -> Result<(), StoreError>;
    /// Adds the first owner token; false, and nothing is written, while an owner token is valid.
    async fn create_first_owner(&self, token: &Token) -> Result<bool, StoreError>;
    /// Deletes a token, with its admin event. The last valid owner's token stays: [`StoreError::LastOwner`].
    async fn revoke_token(&self, token_id: &str, actor: &Actor) -> Result<(), StoreError>;
    /// All tokens that may still be used, expired ones included. There are few.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;
    /// Newest first.
    async fn admin_events(
        &self,
        environment: Option<&str>,
        page: &Page,
    ) -> Result<Vec<(Cursor, AdminEvent)>, StoreError>;

    /// Stores a batch, and counts what it holds, in one transaction.
    async fn append_events(&self, batch: &EventBatch) -> Result<Appended, StoreError>;
    /// Newest first, those after a position in that order: at most `limit`, and no more than a page
    /// holds.
    async fn events(
        &self,
        filter: &EventFilter,
        after: Option<EventPosition>,
        limit: u32,
    ) -> Result<EventPage, StoreError>;
    /// What nodes lost, or one of them, noted last first.
    async fn gaps(
        &self,
        environment: &Id,
        node_id: Option<&str>,
        page: &Page,
    ) -> Result<Vec<(Cursor, LogGap)>, StoreError>;
    /// What requests come to, those stored just now included.
    async fn metrics(&self, query: &MetricsQuery) -> Result<Metrics, StoreError>;
    /// Adds up what batches of minutes that are over left to be counted. It changes what nobody reads:
    /// only how long it takes to count. Does nothing while another replica does it.
    async fn roll_up(&self, now: SystemTime) -> Result<(), StoreError>;
    /// Makes room for the events of the days to come, and ends what has been kept for long enough.
    async fn keep(&self, retention: &Retention, now: SystemTime) -> Result<(), StoreError>;

    /// Notes what a replica knows of these nodes, in place of what it said before, and forgets what
    /// no replica has said again for `kept`. Makes no revision. `announced`: the others are to look
    /// at once.
    async fn put_nodes(
        &self,
        replica: &str,
        nodes: &[Node],
        kept: Duration,
        announced: bool,
    ) -> Result<(), StoreError>;
    /// What the other replicas said of their nodes.
    async fn nodes_of_others(&self, replica: &str) -> Result<Vec<SaidNode>, StoreError>;

    /// The CA whose certificates nodes show: this one, if none was kept before. The key is never kept.
    async fn node_ca(&self, first: Fingerprint) -> Result<Fingerprint, StoreError>;
    /// Adds a join token, with its admin event.
    async fn create_join_token(&self, token: &JoinToken, actor: &Actor) -> Result<(), StoreError>;
    /// All that were not used, with those that expired within the last day.
    async fn join_tokens(&self) -> Result<Vec<JoinToken>, StoreError>;
    /// The one with this hash, if it was not used. It may have expired.
    async fn join_token(&self, hash: &SecretHash) -> Result<Option<JoinToken>, StoreError>;
    /// Deletes a join token, with its admin event.
    async fn delete_join_token(&self, token_id: &str, actor: &Actor) -> Result<(), StoreError>;
    /// Uses a token up and keeps the certificate the node gets for it, with an admin event of the token.
    /// False, and nothing is written: the token can't be used, or not by this node.
    async fn join(&self, hash: &SecretHash, issued: &Issued) -> Result<bool, StoreError>;
    /// Keeps the next certificate of a node that showed the one of this number. False, and nothing is
    /// written: that one is revoked or not known.
    async fn renew(&self, shown: &Serial, issued: &Issued) -> Result<bool, StoreError>;
    /// Revokes every certificate of a node, with its admin event. Those of renewals under way too.
    async fn revoke_node(&self, node: &NodeName, actor: &Actor) -> Result<(), StoreError>;
    /// Certificates that are revoked and have not ended.
    async fn revoked_certificates(&self) -> Result<Vec<Serial>, StoreError>;

    /// Whether the database takes writes, which it may not when its disk is full; that it answers where it
    /// says so.
    async fn takes_writes(&self) -> Result<bool, StoreError>;
}

/// What of a batch was not stored before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appended {
    pub(crate) events: u64,
    /// Events the batch says are lost.
    pub(crate) lost: u64,
}

/// How long what nodes report is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Retention {
    /// Events, and sums by the minute.
    pub(crate) events: Duration,
    /// Sums by the hour and by the day, and what was lost.
    pub(crate) rollups: Duration,
    /// Bytes of a day, indexes included, above which days to come are kept by the hour, where that is
    /// a difference.
    pub(crate) hourly_above: u64,
}

/// Which keys to list; absent fields ask nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct KeyFilter {
    pub(crate) source_path: Option<String>,
    pub(crate) is_active: Option<bool>,
    pub(crate) plan_id: Option<String>,
}

/// The routes, upstreams and plans of an environment as of one revision, each by id.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Held {
    pub(crate) revision: u64,
    pub(crate) upstreams: Vec<Stored<Upstream>>,
    pub(crate) routes: Vec<Stored<Route>>,
    pub(crate) plans: Vec<Stored<Plan>>,
}

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// The position of the last object of the page before.
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: u32,
}

/// A position in a list: where it is ordered by time, time then id, else the id alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cursor {
    /// Microseconds since 1970; 0 in lists ordered by id.
    pub(crate) at_us: i64,
    pub(crate) id: String,
}

impl Cursor {
    /// Of an object in a list ordered by time.
    pub(crate) fn by_time(time: SystemTime, id: &str) -> Self {
        Self { at_us: unix_us(time), id: id.to_owned() }
    }

    /// Of an object in a list ordered by id.
    pub(crate) fn by_id(id: &str) -> Self {
        Self { at_us: 0, id: id.to_owned() }
    }
}

/// Microseconds since 1970, as databases and cursors hold times. What is before that is 1970.
pub(crate) fn unix_us(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The newest revision of a namespace.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Head {
    pub(crate) environment: Id,
    pub(crate) ns: Namespace,
    /// New when the revisions start anew: an environment deleted and made again. A backup that is restored
    /// has the one it was made in, with fewer revisions.
    pub(crate) epoch: String,
    pub(crate) revision: u64,
    /// Of all entities at this revision.
    pub(crate) digest: Digest,
    /// Of config: how far it is on its way to the nodes, or was the last time.
    pub(crate) rollout: Option<Rollout>,
}

/// How a rollout is to be moved on, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RolloutMove<'a> {
    pub(crate) from: RolloutPosition,
    pub(crate) to: RolloutPosition,
    pub(crate) reason: &'a str,
    pub(crate) actor: &'a Actor,
    /// What the admin event says was done.
    pub(crate) action: &'a str,
}

/// One committed revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LoggedRevision {
    pub(crate) revision: u64,
    /// An encoded `fastgate.node.v1.Delta` from the revision before to this one, digest included.
    pub(crate) delta: Bytes,
}

/// A node as another replica knows it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SaidNode {
    pub(crate) node: Node,
    /// How long ago the replica said so, by the clock of the database.
    pub(crate) age: Duration,
}

/// Why the store did not do as asked. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("{kind} '{id}' does not exist")]
    NotFound { kind: &'static str, id: String },
    #[error("{kind} '{id}' exists already")]
    Exists { kind: &'static str, id: String },
    #[error("{kind} '{id}' has changed since it was read")]
    Stale { kind: &'static str, id: String },
    /// Nothing would tell which of the two routes a request belongs to.
    #[error("route '{id}' matches the same requests as route '{other}'")]
    RouteCollision { id: String, other: String },
    #[error("the name '{name}' belongs to route '{other}' already")]
    NameTaken { name: String, other: String },
    /// One secret opens one key.
    #[error("key '{id}' has a secret that opens key '{other}' already")]
    SecretTaken { id: String, other: String },
    #[error("route '{id}' names upstream '{upstream}', which does not exist")]
    UnknownUpstream { id: String, upstream: String },
    #[error("upstream '{id}' is used by route '{route}'")]
    UpstreamInUse { id: String, route: String },
    /// A key was to be put on it.
    #[error("plan '{plan}' does not exist")]
    UnknownPlan { plan: String },
    #[error("plan '{id}' is used by {keys} {}", if *keys == 1 { "key" } else { "keys" })]
    PlanInUse { id: String, keys: u64 },
    #[error("environment '{id}' is not empty")]
    EnvironmentInUse { id: String },
    /// Nodes are to take whatever is stored.
    #[error("{kind} '{id}' would have {bytes} bytes, of which it may have {most}")]
    TooLarge { kind: &'static str, id: String, bytes: u64, most: u64 },
    #[error(
        "environment '{environment}' would hold {held} {unit} of {what}, of which there may be {most}: delete \
         what is not used, or put it into another environment"
    )]
    Full { environment: String, what: &'static str, unit: &'static str, held: u64, most: u64 },
    #[error("the request id '{request_id}' belongs to another request")]
    RequestReused { request_id: String },
    #[error("this is the last owner token")]
    LastOwner,
    /// Too much had to be looked through.
    #[error("the search took too long: ask for a shorter time, or for what one key did")]
    TooSlow,
    /// The database can't be reached or gave up; a retry may help.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// A bug, or a database changed by other hands.
    #[error("the database answered something unexpected")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
