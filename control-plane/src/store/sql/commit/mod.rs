//! One change in one transaction: revisions, objects, checks, change log, admin events.

mod check;
mod group;
mod key_updates;
mod keys;
mod objects;
mod revision;
mod secrets;
mod staging;
mod undo;

use std::{borrow::Cow, iter, time::SystemTime};

use fastgate::node::v1::EntityKind;

use self::{
    objects::op_object,
    revision::{NextRevision, create_heads, hold},
};
pub(super) use self::{secrets::fill, undo::undo};
use super::{
    Result, Tx, requests,
    tokens::{self, Done},
    value::{broken, from_us, to_us},
};
use crate::{
    domain::{
        ApiKey, Change, Committed, Expect, Namespace, Op, Outcome, Repeatable, Replay, Rework,
        Route,
    },
    store::StoreError,
};

/// Runs a change; the caller commits or rolls back.
pub(super) async fn run(tx: &mut Tx, change: &Change) -> Result<Outcome> {
    let now_us = to_us(SystemTime::now());
    let is_new = match change.ops.first() {
        Some(Op::PutEnvironment(_, Expect::Absent)) => {
            create_heads(tx, &change.environment).await?
        }
        _ => true,
    };
    let mut draft = Draft::begin(tx, change, now_us).await?;
    // Asked under the lock of the heads: of two calls with one id the second sees the first.
    if let Some(replay) = draft.replay().await? {
        return Ok(Outcome::Replayed(replay));
    }
    if !is_new {
        let id = change.environment.to_string();
        return Err(StoreError::Exists { kind: "environment", id });
    }
    let etags = draft.write_all().await?;
    // Only now, so that one change can move a path or a name from one route to another.
    draft.check_whole().await?;
    draft.finish(etags).await
}

/// A change under way.
struct Draft<'a> {
    tx: &'a mut Tx,
    change: &'a Change,
    /// Those of the change, or what they were reworked to.
    ops: Cow<'a, [Op]>,
    now_us: i64,
    keys: Option<NextRevision>,
    config: Option<NextRevision>,
}

impl<'a> Draft<'a> {
    /// Takes the next revision of each namespace the change touches. `config` comes first, so
    /// that two changes never wait for each other crosswise. Deleting an environment touches both:
    /// nothing may be put in while it is looked through for what is left. Deleting a plan holds the
    /// keys as they are: none may be put on it while those on it are counted.
    async fn begin(tx: &'a mut Tx, change: &'a Change, now_us: i64) -> Result<Self> {
        let (mut keys, mut config) = (None, None);
        for (ns, next) in [(Namespace::Config, &mut config), (Namespace::Keys, &mut keys)] {
            if makes_revision(change, ns) {
                *next = Some(NextRevision::take(tx, &change.environment, ns).await?);
            } else if drops_plan(change) {
                hold(tx, &change.environment, ns).await?;
            }
        }
        let ops = Cow::Borrowed(change.ops.as_slice());
        Ok(Self { tx, change, ops, now_us, keys, config })
    }

    /// What the same call was answered before, if it came before.
    async fn replay(&mut self) -> Result<Option<Replay>> {
        let Some(Repeatable { call, .. }) = &self.change.repeatable else { return Ok(None) };
        requests::find(self.tx, call, self.now_us).await
    }

    /// Writes all objects; returns their new etags.
    async fn write_all(&mut self) -> Result<Vec<String>> {
        let change = self.change;
        if let ([op], Some(rework)) = (&change.ops[..], &change.rework) {
            return Ok(vec![self.update(op, rework).await?]);
        }
        let ops = &change.ops;
        // Keys that are to be new can't depend on each other: they are written many at a time.
        if let Some(keys) = new_keys(ops) {
            return self.create_keys(&keys).await;
        }
        let mut etags = Vec::with_capacity(ops.len());
        for op in ops {
            etags.push(self.write(op).await?);
        }
        Ok(etags)
    }

    /// Writes an object, and where others have changed it since, what is to be made of what they left. That
    /// stays as it is: the head of its revisions is locked.
    async fn update(&mut self, op: &Op, rework: &Rework) -> Result<String> {
        let stale = match self.write(op).await {
            Err(stale @ StoreError::Stale { .. }) => stale,
            other => return other,
        };
        let object = objects::held(self.tx, &self.change.environment, op).await?;
        let op = object.and_then(|object| rework.of(object)).ok_or(stale)?;
        let etag = self.write(&op).await?;
        self.ops = Cow::Owned(vec![op]);
        Ok(etag)
    }

    fn next_revision(&mut self, kind: EntityKind) -> Result<&mut NextRevision> {
        let next = match kind {
            EntityKind::Key => &mut self.keys,
            _ => &mut self.config,
        };
        next.as_mut().ok_or_else(|| broken("a write to a namespace that was not locked"))
    }

    /// Writes revisions, admin events and the request id.
    async fn finish(mut self, etags: Vec<String>) -> Result<Outcome> {
        let committed = Committed {
            at: from_us(self.now_us),
            keys_revision: self.keys.as_ref().map(|next| next.number),
            config_revision: self.config.as_ref().map(|next| next.number),
            etags,
        };
        if let Some(config) = &self.config {
            let (before, after) = config.positions();
            let environment = &self.change.environment;
            staging::stage(self.tx, environment, before, after, self.now_us).await?;
        }
        let Change { environment, actor, action, repeatable, .. } = self.change;
        for next in [self.config.take(), self.keys.take()].into_iter().flatten() {
            next.check_size(environment)?;
            let is_there = next.write_head(self.tx, environment).await?;
            secrets::write(self.tx, environment, iter::once(&next.secrets)).await?;
            // Where it is gone, this very change has deleted the environment, and its history with it.
            if is_there {
                revision::log(self.tx, environment, vec![(next, self.change)], self.now_us).await?;
            }
        }
        let done = |op| {
            let object = op_object(op, environment);
            Done { actor, action, environment: environment.as_str(), object }
        };
        let done: Vec<_> = self.ops.iter().map(done).collect();
        tokens::log_admin_events(self.tx, &done, self.now_us).await?;
        if let Some(repeatable) = repeatable
            && !requests::keep(self.tx, repeatable, &committed, self.now_us).await?
        {
            // A call of another environment, or one without ops: these stand under no common lock.
            let replay = requests::find(self.tx, &repeatable.call, self.now_us).await?;
            return replay.map(Outcome::Replayed).ok_or_else(|| broken("a request id that went"));
        }
        Ok(Outcome::Committed(committed))
    }
}

/// Locks the heads that changes of one environment will take, in the order in which one of them does.
pub(super) async fn hold_heads(tx: &mut Tx, changes: &[Change]) -> Result<()> {
    let Some(Change { environment, .. }) = changes.first() else { return Ok(()) };
    for ns in [Namespace::Config, Namespace::Keys] {
        if changes.iter().any(|change| makes_revision(change, ns) || drops_plan(change)) {
            hold(tx, environment, ns).await?;
        }
    }
    Ok(())
}

fn makes_revision(change: &Change, ns: Namespace) -> bool {
    let touches = |op: &Op| op.namespace() == ns || matches!(op, Op::DeleteEnvironment(_));
    change.ops.iter().any(touches)
}

fn drops_plan(change: &Change) -> bool {
    change.ops.iter().any(|op| matches!(op, Op::DeletePlan(..)))
}

/// The keys of a change that creates several keys and does nothing else.
fn new_keys(ops: &[Op]) -> Option<Vec<&ApiKey>> {
    let mut keys = Vec::with_capacity(ops.len());
    for op in ops {
        let Op::PutKey(key, Expect::Absent) = op else { return None };
        keys.push(key);
    }
    (keys.len() > 1).then_some(keys)
}

/// A text that was given; `None` for an empty one.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Equal for routes that only their methods can tell apart.
fn match_key(route: &Route) -> String {
    format!("{:?} {:?} {}", route.model.host, route.model.path, route.model.priority)
}
