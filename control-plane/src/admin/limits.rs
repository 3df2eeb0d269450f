//! Limits of keys: where they stand, which nodes know, and how they are made full again, which is a
//! change of the key.

use fastgate::{
    admin::v1::{
        LimitStanding, ListLimitsRequest, ListLimitsResponse, ResetLimitsRequest,
        limit_service_server::LimitService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, caller},
    named_environment, not_found, now, parse_id,
};
use crate::{domain::ApiKey, error::Error};

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
        let id = parse_id("key_id", &key_id)?;
        if self.store.key(&environment, id.as_str()).await.map_err(Error::from)?.is_none() {
            return Err(not_found("key", &key_id).into());
        }
        let told = self.look(&environment, &id, 0).await;
        let told = told.map_err(|missing| {
            let none = || self.feed.nodes_here().why_none(&environment).to_owned();
            let why = if missing.is_empty() { none() } else { missing.join("; ") };
            Error::NoNode { environment: environment.to_string(), why }
        });
        Ok(Response::new(told?))
    }

    async fn reset_limits(
        &self,
        request: Request<ResetLimitsRequest>,
    ) -> Result<Response<ListLimitsResponse>, Status> {
        let actor = caller(&request)?;
        let ResetLimitsRequest { key_id, environment } = request.into_inner();
        let environment = named_environment(&environment, "")?;
        let id = parse_id("key_id", &key_id)?;
        let draft = Draft { environment, actor, action: RESET, validate_only: false };
        let reset = |stored: &ApiKey| Ok(stored.with_limits_reset(now()));
        let (key, _) = self.update(&draft, id.as_str(), "", reset).await?;
        // It is done, whoever can tell what came of it.
        let told = self.look(&draft.environment, &id, key.revision()).await;
        Ok(Response::new(told.unwrap_or_else(|mut missing| {
            if missing.is_empty() {
                let none = self.feed.nodes_here().why_none(&draft.environment);
                missing.push(format!("where they stand nobody can tell: {none}"));
            }
            ListLimitsResponse { limits: Vec::new(), missing }
        })))
    }
}

impl Admin {
    /// Where the limits of a key stand, as nodes tell that have this revision of keys.
    ///
    /// # Errors
    /// Where nobody tells: why, for each that could.
    async fn look(
        &self,
        environment: &Id,
        key_id: &Id,
        revision: u64,
    ) -> Result<ListLimitsResponse, Vec<String>> {
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        for answer in self.feed.nodes_here().limits(environment, key_id, revision).await {
            match answer {
                Ok(of_node) => told.push(of_node),
                Err(why) => missing.push(why.to_string()),
            }
        }
        if told.is_empty() {
            return Err(missing);
        }
        // Of nodes that count together one answer is that of all.
        let is_shared = |limits: &Vec<LimitStanding>| {
            limits.iter().any(|standing| standing.counted_by == SHARED)
        };
        let (mut shared, own): (Vec<_>, Vec<_>) = told.into_iter().partition(is_shared);
        shared.truncate(1);
        let limits = shared.into_iter().chain(own).flatten().collect();
        Ok(ListLimitsResponse { limits, missing })
    }
}
