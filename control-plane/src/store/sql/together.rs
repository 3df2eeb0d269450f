//! What is asked for at the same time of one environment is done together: while some of it is under way,
//! what comes waits for the next.
//!
//! Changes are committed in one transaction, each as a revision of its own. Until one is on disk, the head
//! it has moved is locked: one after the other, changes would be as slow as the disk. Keys are looked up
//! by one query, where each alone would cost the database several.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastgate::model::Id;
use tokio::{sync::oneshot, time::sleep};

use super::{super::Backend, Result, value::broken};
use crate::store::StoreError;

/// How long what is under way is waited for before somebody asks whether the database is still there, and
/// how often that is asked in vain. What is much takes long: this is no end of it.
const PATIENCE: Duration = Duration::from_millis(500);
const ASKED: u32 = 2;

/// What can be done for several at once.
pub(super) trait Joint: Sized + Send + Sync + 'static {
    type Answer: Send + 'static;

    /// How many at a time.
    const AT_ONCE: usize;

    /// Answers those asked, in their order. Answers that are there count whatever it returns.
    ///
    /// # Errors
    /// What is said to all others.
    fn run(
        backend: &Backend,
        environment: &Id,
        asked: &[Self],
        answers: &mut Vec<Result<Self::Answer>>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Those that wait, by environment.
pub(super) struct Together<T: Joint>(Arc<Mutex<HashMap<Id, VecDeque<Waiting<T>>>>>);

struct Waiting<T: Joint> {
    asked: T,
    answer: oneshot::Sender<Result<T::Answer>>,
}

/// Does what waits for an environment. There is one for each that has an entry.
struct Driver<T: Joint> {
    together: Together<T>,
    environment: Id,
    backend: Arc<Backend>,
}

impl<T: Joint> Together<T> {
    /// Does this, with others or alone. It goes on when nobody waits for it any more.
    pub(super) async fn ask(
        &self,
        backend: &Arc<Backend>,
        environment: &Id,
        asked: T,
    ) -> Result<T::Answer> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { asked, answer };
        match self.waiting().entry(environment.clone()) {
            Entry::Occupied(mut entry) => entry.get_mut().push_back(waiting),
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::from([waiting]));
                let (together, environment) = (self.clone(), environment.clone());
                let driver = Driver { together, environment, backend: backend.clone() };
                tokio::spawn(driver.run());
            }
        }
        answered.await.map_err(|_| broken("a call that nobody did"))?
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Id, VecDeque<Waiting<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Joint> Clone for Together<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Joint> Default for Together<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Joint> Driver<T> {
    async fn run(self) {
        while let Some(group) = self.next() {
            let (asked, waiting): (Vec<_>, Vec<_>) =
                group.into_iter().map(|waiting| (waiting.asked, waiting.answer)).unzip();
            let mut answers = Vec::with_capacity(asked.len());
            let doing = T::run(&self.backend, &self.environment, &asked, &mut answers);
            let done = tokio::select! {
                done = doing => Some(done),
                () = is_away(&self.backend) => None,
            };
            let done = done.unwrap_or_else(|| {
                // Nobody knows what became of it.
                answers.clear();
                Err(StoreError::silent())
            });
            let mut answers = answers.into_iter();
            for answer in waiting {
                let said = match (answers.next(), &done) {
                    (Some(said), _) => said,
                    (None, Err(fault)) => Err(copy(fault)),
                    (None, Ok(())) => Err(broken("a call that was passed over")),
                };
                // Nobody may wait for it.
                drop(answer.send(said));
            }
            // Those that came meanwhile have waited for the same database. Any other fault is that of the
            // group it came of.
            let Err(fault @ StoreError::Unavailable(_)) = done else { continue };
            let Some(group) = self.next() else { return };
            for waiting in group {
                drop(waiting.answer.send(Err(copy(&fault))));
            }
        }
    }

    /// `None`: nothing waits, and the next to come needs another driver.
    fn next(&self) -> Option<Vec<Waiting<T>>> {
        let mut all = self.together.waiting();
        let waiting = all.get_mut(&self.environment)?;
        if waiting.is_empty() {
            all.remove(&self.environment);
            return None;
        }
        let count = waiting.len().min(T::AT_ONCE);
        Some(waiting.drain(..count).collect())
    }
}

impl<T: Joint> Drop for Driver<T> {
    /// Where it ends as it should, its entry is gone, or another one's already.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody must wait for one that is no more.
            self.together.waiting().remove(&self.environment);
        }
    }
}

/// Returns when the database answers nobody.
async fn is_away(backend: &Backend) {
    let mut asked = 0;
    while asked < ASKED {
        if asked == 0 {
            sleep(PATIENCE).await;
        }
        asked = if backend.answers().await { 0 } else { asked + 1 };
    }
}

/// One fault told to several.
pub(super) fn copy(fault: &StoreError) -> StoreError {
    match fault {
        StoreError::Unavailable(fault) => StoreError::Unavailable(fault.clone()),
        other => StoreError::Internal(other.to_string().into()),
    }
}
