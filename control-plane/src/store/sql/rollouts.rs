//! Rollouts, and who moves them on.

use std::collections::HashMap;

use fastgate::{admin::v1, digest::Digest, model::Id};
use prost::Message as _;

use super::{
    Result, Tx, tokens,
    value::{broken, from_us, to_i64, to_u64},
};
use crate::domain::{Actor, Rollout, RolloutPolicy, RolloutPosition, RolloutState};

const SELECT: &str = "SELECT environment, base, base_digest, target, ring, state, reason, policy, \
     started_us, moved_us FROM rollouts";

type Row = (String, i64, Vec<u8>, i64, i64, String, String, Vec<u8>, i64, i64);

/// Those of all environments.
pub(super) async fn all(tx: &mut Tx) -> Result<HashMap<String, Rollout>> {
    let rows: Vec<Row> = sqlx::query_as(SELECT).fetch_all(&mut **tx).await?;
    rows.into_iter().map(|row| Ok((row.0.clone(), rollout_of(row)?))).collect()
}

pub(super) async fn one(tx: &mut Tx, environment: &Id) -> Result<Option<Rollout>> {
    let select = sqlx::AssertSqlSafe(format!("{SELECT} WHERE environment = $1"));
    let row: Option<Row> =
        sqlx::query_as(select).bind(environment.as_str()).fetch_optional(&mut **tx).await?;
    row.map(rollout_of).transpose()
}

/// Begins one, in place of what there is.
pub(super) async fn begin(
    tx: &mut Tx,
    environment: &Id,
    policy: &[u8],
    rollout: (u64, Digest, RolloutPosition),
    now_us: i64,
) -> Result<()> {
    let (base, base_digest, at) = rollout;
    sqlx::query(
        "INSERT INTO rollouts (environment, base, base_digest, target, ring, state, reason, policy, \
         started_us, moved_us) VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $8) \
         ON CONFLICT (environment) DO UPDATE SET base = $2, base_digest = $3, target = $4, ring = $5, \
         state = $6, reason = '', policy = $7, started_us = $8, moved_us = $8",
    )
    .bind(environment.as_str())
    .bind(to_i64(base))
    .bind(&base_digest.to_bytes()[..])
    .bind(to_i64(at.target))
    .bind(to_i64(at.ring as u64))
    .bind(at.state.name())
    .bind(policy)
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves one on, if it is still at `from`; whether it was.
pub(super) async fn go(
    tx: &mut Tx,
    environment: &Id,
    (from, to): (RolloutPosition, RolloutPosition),
    reason: &str,
    now_us: i64,
) -> Result<bool> {
    let moved = sqlx::query(
        "UPDATE rollouts SET target = $5, ring = $6, state = $7, reason = $8, moved_us = $9 \
         WHERE environment = $1 AND target = $2 AND ring = $3 AND state = $4",
    )
    .bind(environment.as_str())
    .bind(to_i64(from.target))
    .bind(to_i64(from.ring as u64))
    .bind(from.state.name())
    .bind(to_i64(to.target))
    .bind(to_i64(to.ring as u64))
    .bind(to.state.name())
    .bind(reason)
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// Notes who moved one on.
pub(super) async fn log(
    tx: &mut Tx,
    environment: &Id,
    target: u64,
    (actor, action): (&Actor, &str),
    now_us: i64,
) -> Result<()> {
    let target = target.to_string();
    let object = ("rollout", target.as_str());
    tokens::log_admin_event(tx, actor, action, environment.as_str(), object, now_us).await
}

pub(super) fn policy_of(encoded: &[u8]) -> Result<RolloutPolicy> {
    let wire = v1::RolloutPolicy::decode(encoded).map_err(broken)?;
    RolloutPolicy::parse(wire).map_err(broken)
}

fn rollout_of(row: Row) -> Result<Rollout> {
    let (_, base, base_digest, target, ring, state, reason, policy, started_us, moved_us) = row;
    let base_digest =
        Digest::from_bytes(&base_digest).ok_or_else(|| broken("a digest of another length"))?;
    let ring = usize::try_from(ring).map_err(broken)?;
    let state = RolloutState::parse(&state)
        .ok_or_else(|| broken(format!("'{state}' as the state of a rollout")))?;
    Ok(Rollout {
        base: to_u64(base),
        base_digest,
        policy: policy_of(&policy)?.model,
        at: RolloutPosition { target: to_u64(target), ring, state },
        reason,
        started_at: from_us(started_us),
        moved_at: from_us(moved_us),
    })
}
