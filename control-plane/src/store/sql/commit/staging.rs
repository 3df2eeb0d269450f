//! Which nodes may have a new revision of the config at once: all of them, or those of the first ring.

use fastgate::{digest::Digest, model::Id};

use super::super::{Result, Tx, rollouts};
use crate::domain::{RolloutPosition, RolloutState};

/// A namespace as of a revision.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) revision: u64,
    pub(super) digest: Digest,
}

/// Begins a rollout of a revision where the environment has a policy, or begins the one under way anew with
/// it: what that began from stays what nodes of later rings have.
///
/// A revision that holds what the rollout began from ends it: there is nothing to be careful about.
pub(super) async fn stage(
    tx: &mut Tx,
    environment: &Id,
    before: Position,
    after: Position,
    now_us: i64,
) -> Result<()> {
    let policy: Option<(Option<Vec<u8>>,)> =
        sqlx::query_as("SELECT rollout FROM environments WHERE environment = $1")
            .bind(environment.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    let policy = policy.and_then(|(policy,)| policy);
    let active = rollouts::one(tx, environment).await?.filter(|rollout| rollout.is_active());
    let (base, base_digest) = match &active {
        Some(active) => (active.base, active.base_digest),
        None => (before.revision, before.digest),
    };
    // A new environment has nothing that could be in force elsewhere.
    let policy = policy.filter(|_| base > 0 && after.digest != base_digest);
    match (policy, active) {
        (Some(policy), active) => {
            let was_paused = active.is_some_and(|active| active.at.state == RolloutState::Paused);
            let state = if was_paused { RolloutState::Paused } else { RolloutState::Running };
            let at = RolloutPosition { target: after.revision, ring: 0, state };
            rollouts::begin(tx, environment, &policy, (base, base_digest, at), now_us).await
        }
        (None, Some(active)) => {
            let (state, reason) = match active.at.state {
                _ if after.digest != base_digest => {
                    (RolloutState::Done, "the policy was taken away")
                }
                RolloutState::Stopped => (RolloutState::RolledBack, active.reason.as_str()),
                _ => (RolloutState::Undone, ""),
            };
            let moves = (active.at, active.at.with(state));
            rollouts::go(tx, environment, moves, reason, now_us).await.map(drop)
        }
        (None, None) => Ok(()),
    }
}
