//! The services of the admin API: wire messages become changes of the store, one file a service.
//!
//! What comes in is parsed here, at the edge; what makes an object valid is said by
//! [`fastgate::model`], who may call by the access layer. Nothing here knows of HTTP.

mod access;
mod change;
mod config;
mod diff;
mod environments;
mod history;
mod import;
mod keys;
mod limits;
mod logs;
mod mask;
mod metrics;
mod nodes;
mod page;
mod plans;
mod repeat;
mod rollouts;
mod routes;
mod status;
mod upstreams;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1::{
        access_service_server::AccessServiceServer, config_service_server::ConfigServiceServer,
        environment_service_server::EnvironmentServiceServer, key_service_server::KeyServiceServer,
        limit_service_server::LimitServiceServer, log_service_server::LogServiceServer,
        metrics_service_server::MetricsServiceServer, node_service_server::NodeServiceServer,
        plan_service_server::PlanServiceServer, rollout_service_server::RolloutServiceServer,
        route_service_server::RouteServiceServer, status_service_server::StatusServiceServer,
        upstream_service_server::UpstreamServiceServer,
    },
    identity::Fingerprint,
    model::{Id, Violations},
    time::Written,
};
use prost_reflect::DescriptorPool;
use prost_types::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    access::Access,
    audit::Tails,
    error::Error,
    feed::Feed,
    store::{Store, StoreError, within},
};

pub(crate) use logs::Exports;

pub use import::check_imported_key;

/// How long the store may take to say whether there is an environment.
const ASKING: Duration = Duration::from_secs(2);

/// Larger messages are refused.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
/// The same for messages that hold a config document.
pub(crate) const MAX_CONFIG: usize = 16 << 20;

/// All services of the admin API.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) store: Arc<dyn Store>,
    /// Knows the nodes.
    pub(crate) feed: Feed,
    /// Told when tokens change.
    pub(crate) access: Access,
    /// Who watches the log, for nodes to know.
    pub(crate) tails: Tails,
    /// Who takes the log along.
    pub(crate) exports: Exports,
    /// The CA that join tokens name; `None`: nodes show no certificates here.
    pub(crate) node_ca: Option<Fingerprint>,
    /// The messages of the API.
    pub(crate) pool: DescriptorPool,
    /// When this process did.
    pub(crate) started_at: SystemTime,
    /// Ends what is streamed.
    pub(crate) stop: CancellationToken,
}

impl Admin {
    /// The services, as gRPC routes.
    pub(crate) fn routes(&self) -> Routes {
        macro_rules! add {
            ($routes:expr, $($server:ident at most $bytes:expr;)*) => {
                $routes$(.add_service(
                    $server::new(self.clone()).max_decoding_message_size($bytes),
                ))*
            };
        }
        add!(Routes::default(),
            AccessServiceServer at most MAX_MESSAGE;
            ConfigServiceServer at most MAX_CONFIG;
            EnvironmentServiceServer at most MAX_MESSAGE;
            KeyServiceServer at most MAX_MESSAGE;
            LimitServiceServer at most MAX_MESSAGE;
            LogServiceServer at most MAX_MESSAGE;
            MetricsServiceServer at most MAX_MESSAGE;
            NodeServiceServer at most MAX_MESSAGE;
            PlanServiceServer at most MAX_MESSAGE;
            RolloutServiceServer at most MAX_MESSAGE;
            RouteServiceServer at most MAX_MESSAGE;
            StatusServiceServer at most MAX_MESSAGE;
            UpstreamServiceServer at most MAX_MESSAGE;
        )
    }

    /// The environment a request is about, which must exist.
    async fn environment(&self, in_request: &str, in_object: &str) -> Result<Id, Error> {
        let id = named_environment(in_request, in_object)?;
        self.check_environment(&id).await?;
        Ok(id)
    }

    async fn check_environment(&self, id: &Id) -> Result<(), Error> {
        let found = within(ASKING, self.store.environment(id.as_str())).await?;
        found.map(drop).ok_or_else(|| not_found("environment", id.as_str()))
    }
}

/// The environment a request is about, whether it exists or not.
fn named_environment(in_request: &str, in_object: &str) -> Result<Id, Error> {
    if !in_request.is_empty() && !in_object.is_empty() && in_request != in_object {
        let both = format!("is '{in_request}' in the request and '{in_object}' in the object");
        return Err(Error::field("environment", format!("{both}: give one of them")));
    }
    let named = [in_request, in_object].into_iter().find(|name| !name.is_empty());
    parse_id("environment", named.unwrap_or(Id::DEFAULT_ENVIRONMENT))
}

fn parse_id(field: &str, text: &str) -> Result<Id, Error> {
    Id::parse(text).map_err(|fault| Error::field(field, fault))
}

fn check_text(field: &str, text: &str) -> Result<(), Error> {
    fastgate::model::text(text).map(drop).map_err(|fault| Error::field(field, fault))
}

fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
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

/// The time, as precise as it is kept and as nodes enforce it: to the millisecond.
fn now() -> SystemTime {
    to_millisecond(SystemTime::now())
}

fn to_millisecond(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000))
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
    Some(to_millisecond(time))
}

fn time(field: &str, sent: Option<Timestamp>, faults: &mut Violations) -> Option<SystemTime> {
    let sent = sent?;
    // An answer with a time that can't be written could not be shown.
    match SystemTime::try_from(sent) {
        Ok(time) if Written::new(&sent).is_some() => Some(time),
        _ => {
            faults.add(field, "is no point in time: give one such as 2030-01-31T12:00:00Z");
            None
        }
    }
}
