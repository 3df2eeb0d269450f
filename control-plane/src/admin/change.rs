//! What creating, updating and deleting have in common over all kinds of objects.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use fastgate::model::Id;
use tonic::Request;

use super::{
    Admin, not_found,
    repeat::{Answer, Answered},
};
use crate::{
    access::Caller,
    domain::{Actor, CallId, Change, Expect, Op, Outcome, Repeatable, Stored},
    error::Error,
    store::{Store, StoreError},
};

/// How long an update is tried again that finds the object changed under it. Where many change one through two
/// control planes some may find it so each time: what one reads the other is about to change.
const PATIENCE: Duration = Duration::from_secs(5);

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
pub(super) trait Kept: Clone + PartialEq + Send + Sync {
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
    /// etag of the user it tries again when somebody else changed the object in between. A dry run
    /// keeps the etag that is stored: with another, an update would pass over somebody's change.
    pub(super) async fn update<T: Kept>(
        &self,
        draft: &Draft,
        id: &str,
        sent_etag: &str,
        change: impl Fn(&T) -> Result<T, Error> + Send,
    ) -> Result<(Stored<T>, T::Aside), Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (stored, aside) = self.read::<T>(&draft.environment, id).await?;
            if !sent_etag.is_empty() && sent_etag != stored.etag {
                return Err(StoreError::Stale { kind: T::KIND, id: id.to_owned() }.into());
            }
            let object = change(&stored.object)?;
            if object == stored.object {
                return Ok((stored, aside));
            }
            let op = object.clone().put(Expect::Etag(stored.etag.clone()));
            match self.store.commit(&draft.change(vec![op], None)).await {
                Ok(Outcome::Committed(_)) if draft.validate_only => {
                    return Ok((Stored { object, ..stored }, aside));
                }
                Ok(Outcome::Committed(committed)) => {
                    let (updated_at, etag) = (committed.at, committed.etag());
                    return Ok((Stored { object, updated_at, etag, ..stored }, aside));
                }
                Ok(Outcome::Replayed(_)) => {
                    return Err(Error::Bug("a change without a request id was replayed"));
                }
                Err(StoreError::Stale { .. }) if sent_etag.is_empty() && Instant::now() < until => {
                }
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

/// The caller of a request, put there by the gate.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Actor, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.map(Actor::from).ok_or(Error::Bug("a call reached a service without a caller"))
}
