//! Where the limits of keys stand: nodes know.

use fastgate::{
    admin::v1::{
        LimitStanding, ListLimitsRequest, ListLimitsResponse, ResetLimitsRequest,
        limit_service_server::LimitService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{Admin, change::caller, not_found, parse_id};
use crate::{error::Error, nodes::NOBODY};

const RESET: &str = "fastgate.admin.v1.LimitService/ResetLimits";

/// What a node says that counts in Redis: for all.
const SHARED: &str = "redis";

#[tonic::async_trait]
impl LimitService for Admin {
    async fn list_limits(
        &self,
        request: Request<ListLimitsRequest>,
    ) -> Result<Response<ListLimitsResponse>, Status> {
        let ListLimitsRequest { key_id, environment } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let limits = self.limits(&environment, &key_id, false).await?;
        Ok(Response::new(ListLimitsResponse { limits }))
    }

    async fn reset_limits(
        &self,
        request: Request<ResetLimitsRequest>,
    ) -> Result<Response<ListLimitsResponse>, Status> {
        let actor = caller(&request)?;
        let ResetLimitsRequest { key_id, environment } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let limits = self.limits(&environment, &key_id, true).await?;
        let reset = ("key", &*key_id);
        let noted = self.store.log_admin_event(&actor, RESET, &environment, reset).await;
        noted.map_err(Error::from)?;
        Ok(Response::new(ListLimitsResponse { limits }))
    }
}

impl Admin {
    async fn limits(
        &self,
        environment: &Id,
        key_id: &str,
        reset: bool,
    ) -> Result<Vec<LimitStanding>, Error> {
        let id = parse_id("key_id", key_id)?;
        if self.store.key(environment, id.as_str()).await?.is_none() {
            return Err(not_found("key", key_id));
        }
        let mut limits = Vec::new();
        let mut fault = NOBODY.to_owned();
        for answer in self.feed.nodes_here().limits(environment, &id, reset).await {
            match answer {
                Ok(of_node) => limits.push(of_node),
                Err(why) => fault = why.to_string(),
            }
        }
        // Of nodes that count together one answer is that of all.
        let is_shared = |limits: &Vec<LimitStanding>| {
            limits.iter().any(|standing| standing.counted_by == SHARED)
        };
        let (mut shared, own): (Vec<_>, Vec<_>) = limits.into_iter().partition(is_shared);
        shared.truncate(1);
        if shared.is_empty() && own.is_empty() {
            let environment = environment.to_string();
            return Err(Error::NoNode { environment, why: fault });
        }
        Ok(shared.into_iter().chain(own).flatten().collect())
    }
}
