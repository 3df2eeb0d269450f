//! One change in one transaction: revisions, objects, checks, change log, admin events.

mod check;
mod objects;
mod revision;

use std::time::SystemTime;

use fastgate::node::v1::EntityKind;

use self::{
    objects::op_object,
    revision::{NextRevision, create_heads},
};
use super::{
    Result, Tx, tokens,
    value::{broken, from_us, to_us},
};
use crate::domain::{Change, Committed, Expect, Namespace, Op, Outcome, Route};

/// How long a request id is remembered, in microseconds: a day.
const REQUESTS_KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Runs a change; the caller commits or rolls back.
pub(super) async fn run(tx: &mut Tx, change: &Change) -> Result<Outcome> {
    let now_us = to_us(SystemTime::now());
    let mut draft = Draft::begin(tx, change, now_us).await?;
    // Asked under the lock of the heads: of two calls with one id the second sees the first.
    if let Some(ids) = draft.replay().await? {
        return Ok(Outcome::Replayed(ids));
    }
    let mut etags = Vec::with_capacity(change.ops.len());
    for op in &change.ops {
        etags.push(draft.write(op).await?);
    }
    // Only now, so that one change can move a path or a name from one route to another.
    draft.check_whole().await?;
    draft.finish(etags).await
}

/// A change under way.
struct Draft<'a> {
    tx: &'a mut Tx,
    change: &'a Change,
    now_us: i64,
    keys: Option<NextRevision>,
    config: Option<NextRevision>,
}

impl<'a> Draft<'a> {
    /// Takes the next revision of each namespace the change touches. `config` comes first, so
    /// that two changes never wait for each other crosswise. Deleting an environment touches both:
    /// nothing may be put in while it is looked through for what is left.
    async fn begin(tx: &'a mut Tx, change: &'a Change, now_us: i64) -> Result<Self> {
        if let Some(Op::PutEnvironment(_, Expect::Absent)) = change.ops.first() {
            create_heads(tx, &change.environment).await?;
        }
        let (mut keys, mut config) = (None, None);
        for (ns, next) in [(Namespace::Config, &mut config), (Namespace::Keys, &mut keys)] {
            let touches = |op: &Op| op.namespace() == ns || matches!(op, Op::DeleteEnvironment(_));
            if change.ops.iter().any(touches) {
                *next = Some(NextRevision::take(tx, &change.environment, ns).await?);
            }
        }
        Ok(Self { tx, change, now_us, keys, config })
    }

    /// What an earlier change with the same request id wrote.
    async fn replay(&mut self) -> Result<Option<Vec<String>>> {
        let Some(request_id) = &self.change.request_id else { return Ok(None) };
        sqlx::query("DELETE FROM requests WHERE at_us < $1")
            .bind(self.now_us - REQUESTS_KEPT_US)
            .execute(&mut **self.tx)
            .await?;
        let ids: Option<(String,)> = sqlx::query_as(
            "SELECT ids FROM requests WHERE environment = $1 AND action = $2 AND request_id = $3",
        )
        .bind(self.change.environment.as_str())
        .bind(self.change.action)
        .bind(request_id)
        .fetch_optional(&mut **self.tx)
        .await?;
        ids.map(|(ids,)| serde_json::from_str(&ids).map_err(broken)).transpose()
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
        for next in [self.config.take(), self.keys.take()].into_iter().flatten() {
            next.log(self.tx, self.change, self.now_us).await?;
        }
        let Change { environment, actor, action, ops, .. } = self.change;
        let mut ids = Vec::with_capacity(ops.len());
        for op in ops {
            let object = op_object(op, environment);
            let environment = environment.as_str();
            tokens::log_admin_event(self.tx, actor, action, environment, object, self.now_us)
                .await?;
            ids.push(object.1);
        }
        self.remember(&ids).await?;
        Ok(Outcome::Committed(committed))
    }

    /// Keeps what was written for a retry with the same request id.
    async fn remember(&mut self, ids: &[&str]) -> Result<()> {
        let Some(request_id) = &self.change.request_id else { return Ok(()) };
        sqlx::query(
            "INSERT INTO requests (environment, action, request_id, ids, at_us) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(self.change.environment.as_str())
        .bind(self.change.action)
        .bind(request_id)
        .bind(serde_json::to_string(ids).map_err(broken)?)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        Ok(())
    }
}

/// A text that was given; `None` for an empty one.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Equal for routes that only their methods can tell apart.
fn match_key(route: &Route) -> String {
    format!("{:?} {:?} {}", route.model.host, route.model.path, route.model.priority)
}
