//! Updates of keys that come together: a few statements for all of them, each a revision of its own.
//!
//! Each change costs the database and the way to it a dozen statements where it is written alone. Of a
//! thousand changes a second, that is more than one connection can carry.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use fastgate::model::Id;

use super::{
    super::{
        Db, Result, Tx,
        objects::select_named,
        tokens::{self, Done},
        value::{from_us, not_found, to_us},
    },
    given,
    objects::{PLANS, is_there, op_object},
    revision::{self, NextRevision},
    secrets,
};
use crate::{
    domain::{ApiKey, Change, Committed, Expect, Namespace, Op, Outcome},
    store::StoreError,
};

/// How many of the changes, from the first on, can be written together: each updates one key that no
/// other of them does, in a state its author has seen.
pub(super) fn leading(changes: &[Change]) -> usize {
    let mut seen = HashSet::new();
    let keys = changes.iter().map_while(update_of);
    keys.take_while(|(key, _)| seen.insert(&key.key_id)).count()
}

/// Writes changes that [`leading`] has counted; says what becomes of each.
///
/// # Errors
/// Why none is written.
pub(super) async fn run(tx: &mut Tx, changes: &[Change]) -> Result<Vec<Result<Outcome>>> {
    let Some(Change { environment, .. }) = changes.first() else { return Ok(Vec::new()) };
    let now_us = to_us(SystemTime::now());
    // Its head is locked from here on: what is read now stays so.
    let mut next = match NextRevision::take(tx, environment, Namespace::Keys).await {
        Ok(next) => next,
        Err(fault @ StoreError::NotFound { .. }) => return Ok(refuse_all(changes, fault)),
        Err(fault) => return Err(fault),
    };
    let kept = kept(tx, environment, changes).await?;
    let plans = plans(tx, environment, changes).await?;
    let mut outcomes = Vec::with_capacity(changes.len());
    let (mut written, mut revisions) = (Vec::new(), Vec::new());
    for change in changes {
        let Some((key, etag)) = update_of(change) else { continue };
        let drafted = draft(&next, (key, etag), &kept, &plans)
            .and_then(|draft| draft.check_size(environment).map(|()| draft));
        outcomes.push(drafted.map(|draft| {
            let etag = format!("{:x}", draft.number);
            let committed = Committed {
                at: from_us(now_us),
                keys_revision: Some(draft.number),
                config_revision: None,
                etags: vec![etag.clone()],
            };
            next = draft.following();
            written.push((key, etag));
            revisions.push((draft, change));
            Outcome::Committed(committed)
        }));
    }
    next.give_back().write_head(tx, environment).await?;
    if !written.is_empty() {
        update(tx, environment, &written, now_us).await?;
        // What they are rotated to is new: nothing of it can be another's.
        let moved = revisions.iter().map(|(revision, _)| &revision.secrets);
        secrets::write(tx, environment, moved).await?;
        revision::log(tx, environment, revisions, now_us).await?;
        log_events(tx, changes, &outcomes, now_us).await?;
    }
    Ok(outcomes)
}

/// The key of a change that only updates one, and the etag its author has seen.
fn update_of(change: &Change) -> Option<(&ApiKey, &str)> {
    match (&change.ops[..], &change.repeatable) {
        ([Op::PutKey(key, Expect::Etag(etag))], None) => Some((key, etag)),
        _ => None,
    }
}

fn refuse_all(changes: &[Change], fault: StoreError) -> Vec<Result<Outcome>> {
    let StoreError::NotFound { kind, id } = fault else { return Vec::new() };
    changes.iter().map(|_| Err(not_found(kind, &id))).collect()
}

/// The revision one update makes, if it may be made.
fn draft(
    next: &NextRevision,
    (key, etag): (&ApiKey, &str),
    kept: &HashMap<String, (Vec<u8>, String)>,
    plans: &HashSet<&str>,
) -> Result<NextRevision> {
    let id = key.key_id.as_str();
    let (entity, found) = kept.get(id).ok_or_else(|| not_found("key", id))?;
    if found != etag {
        return Err(StoreError::Stale { kind: "key", id: id.to_owned() });
    }
    if let Some(plan) = given(&key.plan_id).filter(|plan| !plans.contains(plan)) {
        return Err(StoreError::UnknownPlan { plan: plan.to_owned() });
    }
    let mut draft = next.again();
    draft.upsert(Some(entity.clone()), &key.entity())?;
    Ok(draft)
}

/// Entity and etag of the keys there are, by id.
async fn kept(
    tx: &mut Tx,
    environment: &Id,
    changes: &[Change],
) -> Result<HashMap<String, (Vec<u8>, String)>> {
    let key_ids = changes.iter().filter_map(update_of).map(|(key, _)| key.key_id.as_str());
    let mut query = select_named("k.key_id, k.entity, k.etag", environment, key_ids);
    let rows: Vec<(String, Vec<u8>, String)> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|(key_id, entity, etag)| (key_id, (entity, etag))).collect())
}

/// Those of the plans keys are put on that are there.
async fn plans<'a>(
    tx: &mut Tx,
    environment: &Id,
    changes: &'a [Change],
) -> Result<HashSet<&'a str>> {
    let named = changes.iter().filter_map(update_of).filter_map(|(key, _)| given(&key.plan_id));
    let mut there = HashSet::new();
    for plan in named.collect::<HashSet<_>>() {
        if is_there(tx, environment, &PLANS, plan).await? {
            there.insert(plan);
        }
    }
    Ok(there)
}

async fn update(
    tx: &mut Tx,
    environment: &Id,
    written: &[(&ApiKey, String)],
    now_us: i64,
) -> Result<()> {
    // All of them are there, and each is found as one that is to be new would be: a join would be left
    // to the planner, as that of those that are read (`WANTED_KEYS`).
    let mut query = sqlx::QueryBuilder::<Db>::new(
        "INSERT INTO api_keys (environment, key_id, source_path, is_active, description, entity, \
         etag, plan_id, created_us, updated_us) ",
    );
    query.push_values(written, |mut row, (key, etag)| {
        row.push_bind(environment.as_str())
            .push_bind(key.key_id.as_str())
            .push_bind(&key.source_path)
            .push_bind(key.is_active)
            .push_bind(&key.description)
            .push_bind(key.entity().value.to_vec())
            .push_bind(etag)
            .push_bind(given(&key.plan_id))
            .push_bind(now_us)
            .push_bind(now_us);
    });
    query.push(
        " ON CONFLICT (environment, key_id) DO UPDATE SET source_path = excluded.source_path, \
         is_active = excluded.is_active, description = excluded.description, \
         entity = excluded.entity, etag = excluded.etag, plan_id = excluded.plan_id, \
         updated_us = excluded.updated_us",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

async fn log_events(
    tx: &mut Tx,
    changes: &[Change],
    outcomes: &[Result<Outcome>],
    now_us: i64,
) -> Result<()> {
    let mut done = Vec::with_capacity(changes.len());
    for (change, _) in changes.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        let Change { environment, actor, action, ops, .. } = change;
        let object = |op| op_object(op, environment);
        let event = |object| Done { actor, action, environment: environment.as_str(), object };
        done.extend(ops.iter().map(object).map(event));
    }
    tokens::log_admin_events(tx, &done, now_us).await
}
