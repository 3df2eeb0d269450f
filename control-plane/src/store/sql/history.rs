//! Revisions of the config that are past: what they changed, and the config as it was then.
//!
//! Each revision is logged with what takes it back, so the config as of an earlier one is that of now
//! with the revisions since taken back, newest first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::SystemTime,
};

use fastgate::{
    model::Id,
    node::v1::{Change, Delta, Entity, EntityKind, change},
};
use prost::Message as _;

use super::{
    Result, Tx,
    objects::{parse_plan, parse_route, parse_upstream},
    revisions::{self, ns_name},
    value::{broken, from_us, to_i64, to_u64},
};
use crate::{
    domain::{ChangeKind, Namespace, Revision, Stored, Touched},
    store::Held,
};

type Row = (i64, i64, String, String, Vec<u8>, Option<Vec<u8>>);

/// The newest revisions before one, newest first.
pub(super) async fn revisions(
    tx: &mut Tx,
    environment: &Id,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Revision>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT revision, at_us, token_id, action, delta, undo FROM config_log \
         WHERE environment = $1 AND ns = $2 AND revision < $3 ORDER BY revision DESC LIMIT $4",
    )
    .bind(environment.as_str())
    .bind(ns_name(Namespace::Config))
    .bind(before.map_or(i64::MAX, to_i64))
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(revision_of).collect()
}

/// Takes back all that came after a revision; `None`: the log does not reach back to it.
pub(super) async fn take_back(
    tx: &mut Tx,
    environment: &Id,
    held: Held,
    revision: u64,
) -> Result<Option<Held>> {
    let Some(undos) = undos(tx, environment, held.revision, revision).await? else {
        return Ok(None);
    };
    let mut past = Past::of(held);
    for change in undos {
        past.apply(change)?;
    }
    Ok(Some(past.held(revision)))
}

/// The config as nodes had it at a revision, settings included, in no order; `None`: the log does not reach
/// back to it.
pub(super) async fn entities_at(
    tx: &mut Tx,
    environment: &Id,
    revision: u64,
) -> Result<Option<Vec<Entity>>> {
    let Some(head) = revisions::head(tx, environment, Namespace::Config).await? else {
        return Ok(None);
    };
    let Some(undos) = undos(tx, environment, head.revision, revision).await? else {
        return Ok(None);
    };
    let entities = revisions::entities(tx, environment, Namespace::Config).await?;
    let named = |entity: Entity| ((entity.kind, entity.id.clone()), entity);
    let mut entities: HashMap<_, _> = entities.into_iter().map(named).collect();
    for change in undos {
        match change.change {
            Some(change::Change::Upsert(entity)) => {
                entities.insert((entity.kind, entity.id.clone()), entity);
            }
            Some(change::Change::Delete(gone)) => {
                entities.remove(&(gone.kind, gone.id));
            }
            None => {}
        }
    }
    Ok(Some(entities.into_values().collect()))
}

/// What takes back, in this order, all that came after a revision; `None`: the log does not reach back to it.
async fn undos(
    tx: &mut Tx,
    environment: &Id,
    head: u64,
    revision: u64,
) -> Result<Option<Vec<Change>>> {
    if revision == head {
        return Ok(Some(Vec::new()));
    }
    let rows: Vec<(Option<Vec<u8>>,)> = sqlx::query_as(
        "SELECT undo FROM config_log WHERE environment = $1 AND ns = $2 AND revision > $3 \
         ORDER BY revision DESC",
    )
    .bind(environment.as_str())
    .bind(ns_name(Namespace::Config))
    .bind(to_i64(revision))
    .fetch_all(&mut **tx)
    .await?;
    if head.checked_sub(revision) != Some(rows.len() as u64) {
        return Ok(None);
    }
    let mut undos = Vec::new();
    for (undo,) in rows {
        let Some(undo) = undo else { return Ok(None) };
        undos.extend(changes(&undo)?);
    }
    Ok(Some(undos))
}

/// Encoded: what takes the changes of a revision back, the last one first.
pub(super) fn encode_undo(mut changes: Vec<Change>) -> Vec<u8> {
    changes.reverse();
    Delta { changes, ..Delta::default() }.encode_to_vec()
}

/// A config on its way back.
struct Past {
    upstreams: Objects<crate::domain::Upstream>,
    routes: Objects<crate::domain::Route>,
    plans: Objects<crate::domain::Plan>,
}

/// By id, as they are listed.
type Objects<T> = BTreeMap<String, Stored<T>>;

impl Past {
    fn of(held: Held) -> Self {
        fn by_id<T>(objects: Vec<Stored<T>>, id: impl Fn(&T) -> &Id) -> Objects<T> {
            objects.into_iter().map(|one| (id(&one.object).to_string(), one)).collect()
        }
        Self {
            upstreams: by_id(held.upstreams, |upstream| &upstream.model.upstream_id),
            routes: by_id(held.routes, |route| &route.model.route_id),
            plans: by_id(held.plans, |plan| &plan.model.plan_id),
        }
    }

    fn held(self, revision: u64) -> Held {
        Held {
            revision,
            upstreams: self.upstreams.into_values().collect(),
            routes: self.routes.into_values().collect(),
            plans: self.plans.into_values().collect(),
        }
    }

    fn apply(&mut self, change: Change) -> Result<()> {
        let (kind, id, value) = match change.change {
            Some(change::Change::Upsert(entity)) => {
                (entity.kind(), entity.id.clone(), Some(entity.value))
            }
            Some(change::Change::Delete(gone)) => (gone.kind(), gone.id, None),
            None => return Ok(()),
        };
        let value = value.as_deref();
        match kind {
            EntityKind::Route => put(&mut self.routes, id, value, parse_route),
            EntityKind::Upstream => put(&mut self.upstreams, id, value, parse_upstream),
            EntityKind::Plan => put(&mut self.plans, id, value, parse_plan),
            // Settings are the environment's and stand in no document.
            EntityKind::Settings | EntityKind::Key | EntityKind::Unspecified => Ok(()),
        }
    }
}

fn put<T>(
    objects: &mut Objects<T>,
    id: String,
    value: Option<&[u8]>,
    parse: fn(&[u8]) -> Result<T>,
) -> Result<()> {
    let Some(value) = value else {
        objects.remove(&id);
        return Ok(());
    };
    // When it was changed and under which etag is not kept: nobody is to send them back.
    let (created_at, updated_at) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    let stored = Stored { object: parse(value)?, created_at, updated_at, etag: String::new() };
    objects.insert(id, stored);
    Ok(())
}

fn revision_of((revision, at_us, token_id, action, delta, undo): Row) -> Result<Revision> {
    let undo = undo.map(|undo| changes(&undo)).transpose()?.unwrap_or_default();
    let created: HashSet<_> = undo.iter().filter_map(deleted).collect();
    let touched = changes(&delta)?.into_iter().filter_map(|change| match change.change? {
        change::Change::Upsert(entity) => {
            let is_new = created.contains(&(entity.kind, entity.id.as_str()));
            let change = if is_new { ChangeKind::Created } else { ChangeKind::Updated };
            Some(Touched { kind: entity.kind(), id: entity.id, change })
        }
        change::Change::Delete(gone) => {
            Some(Touched { kind: gone.kind(), id: gone.id, change: ChangeKind::Deleted })
        }
    });
    Ok(Revision {
        number: to_u64(revision),
        at: from_us(at_us),
        token_id,
        action,
        touched: touched.collect(),
    })
}

fn deleted(change: &Change) -> Option<(i32, &str)> {
    match change.change.as_ref()? {
        change::Change::Delete(gone) => Some((gone.kind, &gone.id)),
        change::Change::Upsert(_) => None,
    }
}

fn changes(delta: &[u8]) -> Result<Vec<Change>> {
    Ok(Delta::decode(delta).map_err(broken)?.changes)
}
