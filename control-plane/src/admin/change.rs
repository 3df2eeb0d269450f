//! What creating, updating and deleting have in common over all kinds of objects.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fastgate::model::Id;
use tonic::Request;

use super::{
    Admin, not_found,
    repeat::{Answer, Answered},
};
use crate::{
    access::Caller,
    domain::{Actor, CallId, Change, Expect, Object, Op, Outcome, Repeatable, Rework, Stored},
    error::Error,
    store::{Store, StoreError},
};

/// How often an update is tried that nothing could be made of when it was written: it was read before.
const TRIES: u32 = 10;

/// Who changes what kind of thing where.
pub(super) struct Draft {
    pub(super) environment: Id,
    pub(super) actor: Actor,
    /// The RPC, such as `fastgate.admin.v1.KeyService/CreateKey`.
    pub(super) action: &'static str,
    pub(super) validate_only: bool,
}

/// A kind of object that is read by its id and written whole.
#[async_trait]
pub(super) trait Kept: Clone + PartialEq + Send + Sync + 'static {
    /// What the store and its errors call it.
    const KIND: &'static str;
    /// As users see it.
    type Wire: Answer;
    /// What is read along with it and no change of it writes.
    type Aside: Send;

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<(Stored<Self>, Self::Aside)>, StoreError>;

    fn put(self, expect: Expect) -> Op;

    /// An object that is of this kind.
    fn of(object: Object) -> Option<Stored<Self>>;

    /// As users see it, without what the store adds.
    fn shown(&self, environment: &Id) -> Self::Wire;
}

impl Draft {
    pub(super) fn change(&self, ops: Vec<Op>, repeatable: Option<Repeatable>) -> Change {
        Change {
            environment: self.environment.clone(),
            actor: self.actor.clone(),
            action: self.action,
            repeatable,
            ops,
            rework: None,
            validate_only: self.validate_only,
        }
    }
}

impl Admin {
    /// Writes an object that must not exist yet.
    pub(super) async fn create<T: Kept>(
        &self,
        draft: &Draft,
        object: T,
        call: Option<CallId>,
    ) -> Result<Answered<T::Wire>, Error> {
        let answer = object.shown(&draft.environment);
        self.answer(draft, vec![object.put(Expect::Absent)], call, answer).await
    }

    /// Reads an object, changes it and writes it back, unless that changes nothing. Without an
    /// etag of the user it changes what others have made of the object in between. A dry run
    /// keeps the etag that is stored: with another, an update would pass over somebody's change.
    pub(super) async fn update<T: Kept>(
        &self,
        draft: &Draft,
        id: &str,
        sent_etag: &str,
        change: impl Fn(&T) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<(Stored<T>, T::Aside), Error> {
        let update = Arc::new(Update { change, reworked: Mutex::default() });
        let mut tries = 0;
        loop {
            tries += 1;
            let (stored, aside) = self.read::<T>(&draft.environment, id).await?;
            if !sent_etag.is_empty() && sent_etag != stored.etag {
                return Err(StoreError::Stale { kind: T::KIND, id: id.to_owned() }.into());
            }
            let object = (update.change)(&stored.object)?;
            if object == stored.object {
                return Ok((stored, aside));
            }
            let op = object.clone().put(Expect::Etag(stored.etag.clone()));
            let mut change = draft.change(vec![op], None);
            if sent_etag.is_empty() {
                let update = update.clone();
                change.rework = Some(Rework::new(move |object| update.rework(object)));
            }
            match self.store.commit(&change).await {
                Ok(Outcome::Committed(committed)) => {
                    let mut written = update.written().unwrap_or(Stored { object, ..stored });
                    if !draft.validate_only {
                        (written.updated_at, written.etag) = (committed.at, committed.etag());
                    }
                    return Ok((written, aside));
                }
                Ok(Outcome::Replayed(_)) => {
                    return Err(Error::Bug("a change without a request id was replayed"));
                }
                Err(StoreError::Stale { .. }) if sent_etag.is_empty() && tries < TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes an object; with an etag of the user, only in that state.
    pub(super) async fn delete(
        &self,
        draft: &Draft,
        etag: String,
        op: impl FnOnce(Expect) -> Op,
    ) -> Result<(), Error> {
        let expect = if etag.is_empty() { Expect::Present } else { Expect::Etag(etag) };
        self.store.commit(&draft.change(vec![op(expect)], None)).await?;
        Ok(())
    }

    /// Reads an object; where it is not there, the environment is looked for, too, so that nobody has
    /// to do so before.
    pub(super) async fn read<T: Kept>(
        &self,
        environment: &Id,
        id: &str,
    ) -> Result<(Stored<T>, T::Aside), Error> {
        if let Some(found) = T::read(&self.store, environment, id).await? {
            return Ok(found);
        }
        self.check_environment(environment).await?;
        Err(not_found(T::KIND, id))
    }
}

/// What an update does, to the object it was read or to what others made of that since.
struct Update<T, F> {
    change: F,
    /// What came of the latter, and when that was created.
    reworked: Mutex<Option<Stored<T>>>,
}

impl<T: Kept, F: Fn(&T) -> Result<T, Error>> Update<T, F> {
    fn rework(&self, object: Object) -> Option<Op> {
        let stored = T::of(object)?;
        let object = (self.change)(&stored.object).ok().filter(|it| *it != stored.object)?;
        let op = object.clone().put(Expect::Etag(stored.etag.clone()));
        *self.reworked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Stored { object, ..stored });
        Some(op)
    }

    fn written(&self) -> Option<Stored<T>> {
        self.reworked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The caller of a request, put there by the gate.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Actor, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.map(Actor::from).ok_or(Error::Bug("a call reached a service without a caller"))
}
