//! How the control plane itself is doing.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{
        ControlPlaneStatus, EnvironmentStatus, GetStatusRequest,
        status_service_server::StatusService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::Admin;
use crate::{access::Caller, domain::Namespace, error::Error, feed::Feed, ready::Readiness};

/// How long before its end a key is told of.
const AHEAD: Duration = Duration::from_secs(7 * 86_400);

/// Keys that are named.
const NAMED: usize = 10;

#[tonic::async_trait]
impl StatusService for Admin {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<ControlPlaneStatus>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Caller { token_id, role, expires_at } =
            caller.ok_or(Error::Bug("a call without a caller"))?;
        let readiness = Readiness { store: self.store.clone(), feed: self.feed.clone() };
        let found = readiness.check().await;
        let feed = self.feed.clone();
        // A million keys take a while to look through.
        let environments = tokio::task::spawn_blocking(move || environments(&feed)).await;
        let environments =
            environments.map_err(|_| Error::Bug("the look through the keys died"))?;
        Ok(Response::new(ControlPlaneStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            timestamp: Some(SystemTime::now().into()),
            started_at: Some(self.started_at.into()),
            ready: found.reasons.is_empty(),
            reasons: found.reasons,
            database_ms: found.database.map(|took| took.as_secs_f64() * 1000.0),
            token_id,
            role: role.name().to_owned(),
            token_expires_at: Some(expires_at.into()),
            environments,
        }))
    }
}

fn environments(feed: &Feed) -> Vec<EnvironmentStatus> {
    let mut known = feed.environments();
    known.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    known.iter().map(|environment| status(feed, environment)).collect()
}

fn status(feed: &Feed, environment: &Id) -> EnvironmentStatus {
    let until = SystemTime::now() + AHEAD;
    let (key_count, ending) = feed.keys_ending_by(environment, until);
    EnvironmentStatus {
        environment: environment.to_string(),
        keys_revision: feed.head(environment, Namespace::Keys),
        config_revision: feed.head(environment, Namespace::Config),
        key_count,
        ending_key_count: ending.len() as u64,
        set_backs: feed.set_backs(environment),
        ending_key_ids: ending.into_iter().take(NAMED).map(|(_, key_id)| key_id).collect(),
    }
}
