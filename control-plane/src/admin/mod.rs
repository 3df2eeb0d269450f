//! The services of the admin API: wire messages become changes of the store, one file a service.
//!
//! What comes in is parsed here, at the edge; what makes an object valid is said by
//! [`fastgate::model`], who may call by the access layer. Nothing here knows of HTTP.

mod keys;
mod mask;
mod page;

use std::{sync::Arc, time::SystemTime};

use fastgate::model::{Id, Violations};
use prost_reflect::DescriptorPool;
use prost_types::Timestamp;
use tonic::{Request, service::Routes};

use crate::{
    access::{Access, Caller},
    domain::{Actor, Change, Expect, Op, Outcome, Stored},
    error::Error,
    store::{Store, StoreError},
};

/// The environment of requests that name none.
const DEFAULT_ENVIRONMENT: &str = "default";
/// How often a change is tried again when the object changes under it.
const ATTEMPTS: usize = 5;
/// Larger messages are refused.
const MAX_MESSAGE: usize = 4 << 20;

/// All services of the admin API.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) store: Arc<dyn Store>,
    /// Told when tokens change.
    pub(crate) access: Access,
    /// The messages of the API.
    pub(crate) pool: DescriptorPool,
}

impl Admin {
    /// The services, as gRPC routes.
    pub(crate) fn routes(&self) -> Routes {
        use fastgate::admin::v1::key_service_server::KeyServiceServer;

        Routes::new(KeyServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE))
    }

    /// The environment a request is about, which must exist.
    async fn environment(&self, in_request: &str, in_object: &str) -> Result<Id, Error> {
        if !in_request.is_empty() && !in_object.is_empty() && in_request != in_object {
            let both = format!("is '{in_request}' in the request and '{in_object}' in the object");
            return Err(Error::field("environment", format!("{both}: give one of them")));
        }
        let named = [in_request, in_object].into_iter().find(|name| !name.is_empty());
        let id = parse_id("environment", named.unwrap_or(DEFAULT_ENVIRONMENT))?;
        match self.store.environment(id.as_str()).await? {
            Some(_) => Ok(id),
            None => Err(not_found("environment", id.as_str())),
        }
    }

    /// Writes one object and says what became of it.
    async fn write(&self, change: Change) -> Result<Written, Error> {
        match self.store.commit(&change).await? {
            Outcome::Committed(committed) => Ok(Written::Now {
                at: committed.at,
                etag: committed.etags.into_iter().next().unwrap_or_default(),
            }),
            Outcome::Replayed(ids) => {
                let id = ids.into_iter().next();
                Ok(Written::Before { id: id.ok_or(Error::Bug("a replayed change has no id"))? })
            }
        }
    }
}

/// What became of a change of one object.
enum Written {
    /// It was written (or, in a dry run, could be).
    Now { at: SystemTime, etag: String },
    /// An earlier call with the same request id wrote this object.
    Before { id: String },
}

impl Written {
    /// The object as the store has it now, when it was not there before.
    fn created<T>(at: SystemTime, etag: String, object: T) -> Stored<T> {
        Stored { object, created_at: at, updated_at: at, etag }
    }
}

/// A change of one operation by the caller of a request.
struct Draft {
    environment: Id,
    actor: Actor,
    action: &'static str,
    validate_only: bool,
}

impl Draft {
    fn change(&self, op: Op, request_id: Option<String>) -> Change {
        Change {
            environment: self.environment.clone(),
            actor: self.actor.clone(),
            action: self.action,
            request_id,
            ops: vec![op],
            validate_only: self.validate_only,
        }
    }
}

/// The caller of a request, put there by the gate.
fn caller<T>(request: &Request<T>) -> Result<Actor, Error> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.map(Actor::from).ok_or(Error::Bug("a call reached a service without a caller"))
}

/// What a write of an existing object expects: the state the user last saw, or any.
fn expect(etag: String) -> Expect {
    if etag.is_empty() { Expect::Present } else { Expect::Etag(etag) }
}

/// Refuses a change of an object that is not what the user last saw.
fn check_etag(kind: &'static str, id: &str, sent: &str, stored: &str) -> Result<(), Error> {
    if sent.is_empty() || sent == stored {
        return Ok(());
    }
    Err(StoreError::Stale { kind, id: id.to_owned() }.into())
}

/// Whether a write failed because the object changed after it was read, so that another try may do.
fn lost_a_race(error: &Error) -> bool {
    matches!(error, Error::Store(StoreError::Stale { .. }))
}

fn parse_id(field: &str, text: &str) -> Result<Id, Error> {
    Id::parse(text).map_err(|fault| Error::field(field, fault))
}

/// The id of a retry, `None` when the user sent none.
fn request_id(text: String) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    check_text("request_id", &text)?;
    Ok(Some(text))
}

fn check_text(field: &str, text: &str) -> Result<(), Error> {
    fastgate::model::text(text).map(drop).map_err(|fault| Error::field(field, fault))
}

fn missing(field: &str) -> Error {
    Error::field(field, "is missing")
}

fn not_found(kind: &'static str, id: &str) -> Error {
    StoreError::NotFound { kind, id: id.to_owned() }.into()
}

/// A new id with a prefix that says of what; ids made later sort later.
fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::now_v7().simple())
}

/// An expiry as sent; in the past it would be a mistake.
fn future(
    field: &str,
    sent: Option<Timestamp>,
    now: SystemTime,
    faults: &mut Violations,
) -> Option<SystemTime> {
    let time = time(field, sent, faults)?;
    if time <= now {
        faults.add(field, "is in the past: give a later time");
    }
    Some(time)
}

fn time(field: &str, sent: Option<Timestamp>, faults: &mut Violations) -> Option<SystemTime> {
    let sent = sent?;
    let fits = (0..1_000_000_000).contains(&sent.nanos);
    match SystemTime::try_from(sent) {
        Ok(time) if fits => Some(time),
        _ => {
            faults.add(field, "is no point in time: give one such as 2030-01-31T12:00:00Z");
            None
        }
    }
}
