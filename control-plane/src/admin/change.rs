//! What creating, updating and deleting have in common over all kinds of objects.

use std::sync::Arc;

use async_trait::async_trait;
use fastgate::model::Id;
use tonic::Request;

use super::{Admin, not_found};
use crate::{
    access::Caller,
    domain::{
        Actor, ApiKey, Change, Committed, Environment, Expect, Op, Outcome, Route, Stored, Upstream,
    },
    error::Error,
    store::{Store, StoreError},
};

/// How often an update is tried again when the object changes under it.
const ATTEMPTS: usize = 20;

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

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<Stored<Self>>, StoreError>;

    fn put(self, expect: Expect) -> Op;
}

/// What came of creating an object.
pub(super) struct Created<T> {
    pub(super) stored: Stored<T>,
    /// False: an earlier call with the same request id created it.
    pub(super) now: bool,
}

impl Draft {
    pub(super) fn change(&self, ops: Vec<Op>, request_id: Option<String>) -> Change {
        Change {
            environment: self.environment.clone(),
            actor: self.actor.clone(),
            action: self.action,
            request_id,
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
        request_id: Option<String>,
    ) -> Result<Created<T>, Error> {
        let op = object.clone().put(Expect::Absent);
        match self.store.commit(&draft.change(vec![op], request_id)).await? {
            Outcome::Committed(committed) => {
                let (created_at, etag) = (committed.at, etag(committed));
                let stored = Stored { object, created_at, updated_at: created_at, etag };
                Ok(Created { stored, now: true })
            }
            Outcome::Replayed(ids) => {
                let id = ids.into_iter().next().ok_or(Error::Bug("a replayed change has no id"))?;
                let stored = self.read::<T>(&draft.environment, &id).await?;
                Ok(Created { stored, now: false })
            }
        }
    }

    /// Reads an object, changes it and writes it back, unless that changes nothing. Without an
    /// etag of the user it tries again when somebody else changed the object in between.
    pub(super) async fn update<T: Kept>(
        &self,
        draft: &Draft,
        id: &str,
        sent_etag: &str,
        change: impl Fn(&T) -> Result<T, Error> + Send,
    ) -> Result<Stored<T>, Error> {
        let mut tries = ATTEMPTS;
        loop {
            let stored = self.read::<T>(&draft.environment, id).await?;
            if !sent_etag.is_empty() && sent_etag != stored.etag {
                return Err(StoreError::Stale { kind: T::KIND, id: id.to_owned() }.into());
            }
            let object = change(&stored.object)?;
            if object == stored.object {
                return Ok(stored);
            }
            tries -= 1;
            let op = object.clone().put(Expect::Etag(stored.etag));
            match self.store.commit(&draft.change(vec![op], None)).await {
                Ok(Outcome::Committed(committed)) => {
                    let (updated_at, etag) = (committed.at, etag(committed));
                    return Ok(Stored { object, created_at: stored.created_at, updated_at, etag });
                }
                Ok(Outcome::Replayed(_)) => {
                    return Err(Error::Bug("a change without a request id was replayed"));
                }
                Err(StoreError::Stale { .. }) if sent_etag.is_empty() && tries > 0 => {}
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

    pub(super) async fn read<T: Kept>(
        &self,
        environment: &Id,
        id: &str,
    ) -> Result<Stored<T>, Error> {
        let found = T::read(&self.store, environment, id).await?;
        found.ok_or_else(|| not_found(T::KIND, id))
    }
}

/// The caller of a request, put there by the gate.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Actor, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.map(Actor::from).ok_or(Error::Bug("a call reached a service without a caller"))
}

/// The etag of a change's only object.
fn etag(committed: Committed) -> String {
    committed.etags.into_iter().next().unwrap_or_default()
}

#[async_trait]
impl Kept for ApiKey {
    const KIND: &'static str = "key";

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<Stored<Self>>, StoreError> {
        Ok(store.key(environment, id).await?.map(|(key, _)| key))
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutKey(self, expect)
    }
}

#[async_trait]
impl Kept for Route {
    const KIND: &'static str = "route";

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<Stored<Self>>, StoreError> {
        store.route(environment, id).await
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutRoute(Box::new(self), expect)
    }
}

#[async_trait]
impl Kept for Upstream {
    const KIND: &'static str = "upstream";

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<Stored<Self>>, StoreError> {
        store.upstream(environment, id).await
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutUpstream(Box::new(self), expect)
    }
}

#[async_trait]
impl Kept for Environment {
    const KIND: &'static str = "environment";

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        _: &str,
    ) -> Result<Option<Stored<Self>>, StoreError> {
        store.environment(environment.as_str()).await
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutEnvironment(self, expect)
    }
}
