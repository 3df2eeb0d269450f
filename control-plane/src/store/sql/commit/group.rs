//! Changes of one environment that come together: one transaction, a revision for each.

use fastgate::model::Id;

use super::{
    super::{
        super::Backend,
        Result, Tx,
        together::{Joint, copy},
    },
    hold_heads, key_updates,
};
use crate::{
    domain::{Change, Outcome},
    store::{News, StoreError},
};

impl Joint for Change {
    type Answer = Outcome;

    const AT_ONCE: usize = 256;

    async fn run(
        backend: &Backend,
        _environment: &Id,
        changes: &[Self],
        outcomes: &mut Vec<Result<Outcome>>,
    ) -> Result<()> {
        let committed = commit_all(backend, changes, outcomes).await;
        if let Err(fault) = &committed {
            let is_lost = |outcome: &&mut _| matches!(outcome, Ok(Outcome::Committed(_)));
            outcomes.iter_mut().filter(is_lost).for_each(|outcome| *outcome = Err(copy(fault)));
        }
        committed
    }
}

/// Commits those of the changes that can be; `outcomes` says what becomes of each if this succeeds.
///
/// # Errors
/// Why none was committed.
async fn commit_all(
    backend: &Backend,
    changes: &[Change],
    outcomes: &mut Vec<Result<Outcome>>,
) -> Result<()> {
    let mut tx = backend.write().await?;
    if let [change] = changes {
        outcomes.push(super::run(&mut tx, change).await);
    } else {
        if key_updates::leading(changes) < changes.len() {
            hold_heads(&mut tx, changes).await?;
        }
        let mut left = changes;
        while let [first, rest @ ..] = left {
            let (many, others) = left.split_at(key_updates::leading(left));
            left = if many.len() > 1 {
                outcomes.extend(key_updates::run(&mut tx, many).await?);
                others
            } else {
                outcomes.push(commit_one(&mut tx, first).await?);
                rest
            };
        }
        for (change, outcome) in changes.iter().zip(outcomes.iter_mut()) {
            if matches!(outcome, Err(StoreError::Stale { .. })) && change.rework.is_some() {
                *outcome = commit_one(&mut tx, change).await?;
            }
        }
    }
    if !outcomes.iter().any(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))) {
        return Ok(tx.rollback().await?);
    }
    backend.announce(&mut tx, News::Config).await?;
    tx.commit().await?;
    backend.committed(News::Config);
    Ok(())
}

/// Writes one change of several. One that is refused, or was made before, leaves no trace: not even the
/// revision it had taken.
async fn commit_one(tx: &mut Tx, change: &Change) -> Result<Result<Outcome>> {
    sqlx::query("SAVEPOINT one").execute(&mut **tx).await?;
    let outcome = super::run(tx, change).await;
    if !matches!(outcome, Ok(Outcome::Committed(_))) {
        sqlx::query("ROLLBACK TO SAVEPOINT one").execute(&mut **tx).await?;
    }
    sqlx::query("RELEASE SAVEPOINT one").execute(&mut **tx).await?;
    Ok(outcome)
}
