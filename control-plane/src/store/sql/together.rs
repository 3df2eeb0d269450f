//! Changes of an environment that come at the same time are committed in one transaction, each as a
//! revision of its own.
//!
//! Until a change is on disk, the head it has moved is locked: one after the other, changes would be as
//! slow as the disk. While one transaction is under way, those that come wait for the next.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fastgate::model::Id;
use tokio::sync::oneshot;

use super::{
    super::Backend,
    Result, Tx,
    commit::{self, key_updates},
    value::broken,
};
use crate::{
    domain::{Change, Outcome},
    store::{News, StoreError},
};

/// Changes of one transaction.
const AT_ONCE: usize = 64;

/// Changes that wait, by environment.
#[derive(Clone, Default)]
pub(super) struct Together(Arc<Mutex<HashMap<Id, VecDeque<Waiting>>>>);

struct Waiting {
    change: Change,
    answer: oneshot::Sender<Result<Outcome>>,
}

/// Commits what waits for an environment. There is one for each that has an entry.
struct Driver {
    together: Together,
    environment: Id,
    backend: Arc<Backend>,
}

impl Together {
    /// Commits a change, with others or alone. It goes on when nobody waits for it any more.
    pub(super) async fn commit(&self, backend: &Arc<Backend>, change: &Change) -> Result<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let waiting = Waiting { change: change.clone(), answer };
        match self.waiting().entry(change.environment.clone()) {
            Entry::Occupied(mut entry) => entry.get_mut().push_back(waiting),
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::from([waiting]));
                let (together, environment) = (self.clone(), change.environment.clone());
                let driver = Driver { together, environment, backend: backend.clone() };
                tokio::spawn(driver.run());
            }
        }
        outcome.await.map_err(|_| broken("a change that nobody committed"))?
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Id, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    async fn run(self) {
        while let Some(group) = self.next() {
            let (changes, answers): (Vec<_>, Vec<_>) =
                group.into_iter().map(|waiting| (waiting.change, waiting.answer)).unzip();
            let mut outcomes = Vec::with_capacity(changes.len());
            let committed = commit_all(&self.backend, &changes, &mut outcomes).await;
            let mut outcomes = outcomes.into_iter();
            for answer in answers {
                let outcome = match (outcomes.next(), &committed) {
                    (Some(Ok(Outcome::Committed(_))) | None, Err(fault)) => Err(copy(fault)),
                    (Some(outcome), _) => outcome,
                    (None, Ok(())) => Err(broken("a change that nobody looked at")),
                };
                // Nobody may wait for it.
                drop(answer.send(outcome));
            }
            let Err(fault) = committed else { continue };
            // Those that came meanwhile have waited for the same database.
            let Some(group) = self.next() else { return };
            for waiting in group {
                drop(waiting.answer.send(Err(copy(&fault))));
            }
        }
    }

    /// `None`: nothing waits, and the next to come needs another driver.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut all = self.together.waiting();
        let waiting = all.get_mut(&self.environment)?;
        if waiting.is_empty() {
            all.remove(&self.environment);
            return None;
        }
        let count = waiting.len().min(AT_ONCE);
        Some(waiting.drain(..count).collect())
    }
}

impl Drop for Driver {
    /// Where it ends as it should, its entry is gone, or another one's already.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Changes must not wait for one that is no more.
            self.together.waiting().remove(&self.environment);
        }
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
        outcomes.push(commit::run(&mut tx, change).await);
    } else {
        commit::hold_heads(&mut tx, changes).await?;
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
    }
    if !outcomes.iter().any(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))) {
        return Ok(tx.rollback().await?);
    }
    backend.announce(&mut tx, News::Config).await?;
    tx.commit().await?;
    backend.committed(News::Config);
    Ok(())
}

/// Writes one change of several; what it was refused for leaves those before it as they are.
async fn commit_one(tx: &mut Tx, change: &Change) -> Result<Result<Outcome>> {
    sqlx::query("SAVEPOINT one").execute(&mut **tx).await?;
    let outcome = commit::run(tx, change).await;
    if outcome.is_err() {
        sqlx::query("ROLLBACK TO SAVEPOINT one").execute(&mut **tx).await?;
    }
    sqlx::query("RELEASE SAVEPOINT one").execute(&mut **tx).await?;
    Ok(outcome)
}

/// One fault told to several.
fn copy(fault: &StoreError) -> StoreError {
    match fault {
        StoreError::Unavailable(fault) => StoreError::Unavailable(fault.clone()),
        other => StoreError::Internal(other.to_string().into()),
    }
}
