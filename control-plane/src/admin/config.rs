//! Config as a whole: many routes and upstreams in one revision.

use fastgate::{
    admin::v1::{
        ApplyConfigRequest, ApplyConfigResponse, Config, ConfigChange, DiffConfigRequest,
        DiffConfigResponse, ExportConfigRequest, ValidateConfigRequest, ValidateConfigResponse,
        Violation,
        config_change::{Action, After, Before},
        config_service_server::ConfigService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, caller},
    missing,
    plan::{Held, Step, plan},
    request_id, routes, upstreams,
};
use crate::{
    domain::{Outcome, Route, Stored, Upstream},
    error::Error,
    store::StoreError,
};

/// How often a document is compared anew when the config changes under it.
const ATTEMPTS: usize = 5;

#[tonic::async_trait]
impl ConfigService for Admin {
    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Result<Response<ValidateConfigResponse>, Status> {
        let ValidateConfigRequest { config, environment } = request.into_inner();
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let held = self.held(&environment).await?;
        let faults = match plan(&environment, config, held) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(faults)) => faults.into_iter().collect(),
            Err(error) => return Err(error.into()),
        };
        let violations = faults
            .into_iter()
            .map(|fault| Violation { field: fault.field, description: fault.description })
            .collect();
        Ok(Response::new(ValidateConfigResponse { violations }))
    }

    async fn diff_config(
        &self,
        request: Request<DiffConfigRequest>,
    ) -> Result<Response<DiffConfigResponse>, Status> {
        let DiffConfigRequest { config, environment } = request.into_inner();
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let held = self.held(&environment).await?;
        let revision = held.revision;
        let steps = plan(&environment, config, held)?;
        let changes = steps.iter().map(|step| wire(&environment, step, None)).collect();
        Ok(Response::new(DiffConfigResponse { changes, revision }))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let actor = caller(&request)?;
        let ApplyConfigRequest { config, environment, validate_only, request_id: retry } =
            request.into_inner();
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let retry = request_id(retry)?;
        let action = "fastgate.admin.v1.ConfigService/ApplyConfig";
        let draft = Draft { environment, actor, action, validate_only };
        let mut tries = ATTEMPTS;
        loop {
            tries -= 1;
            match self.apply(&draft, config.clone(), retry.clone()).await {
                // What was planned no longer fits what is stored: a new plan says why, or does.
                Err(Error::Store(
                    StoreError::Stale { .. }
                    | StoreError::Exists { .. }
                    | StoreError::RouteCollision { .. }
                    | StoreError::NameTaken { .. }
                    | StoreError::UnknownUpstream { .. },
                )) if tries > 0 => {}
                applied => return Ok(Response::new(applied?)),
            }
        }
    }

    async fn export_config(
        &self,
        request: Request<ExportConfigRequest>,
    ) -> Result<Response<Config>, Status> {
        let environment = self.environment(&request.into_inner().environment, "").await?;
        let Held { upstreams, routes, .. } = self.held(&environment).await?;
        // What the store adds is left out: the document also applies to another environment.
        Ok(Response::new(Config {
            environment: environment.to_string(),
            upstreams: upstreams.into_iter().map(|stored| stored.object.wire).collect(),
            routes: routes.into_iter().map(|stored| stored.object.wire).collect(),
        }))
    }
}

impl Admin {
    async fn held(&self, environment: &Id) -> Result<Held, Error> {
        let (revision, upstreams, routes) = self.store.config(environment).await?;
        Ok(Held { revision, upstreams, routes })
    }

    /// Plans and writes once.
    async fn apply(
        &self,
        draft: &Draft,
        config: Config,
        request_id: Option<String>,
    ) -> Result<ApplyConfigResponse, Error> {
        let environment = &draft.environment;
        let held = self.held(environment).await?;
        let before = held.revision;
        let steps = plan(environment, config, held)?;
        // With a request id even an empty change is asked for: the first answer may be known.
        if steps.is_empty() && request_id.is_none() {
            return Ok(ApplyConfigResponse { changes: Vec::new(), revision: before });
        }
        let ops = steps.iter().map(Step::op).collect();
        match self.store.commit(&draft.change(ops, request_id)).await? {
            Outcome::Committed(_) if draft.validate_only => Ok(ApplyConfigResponse {
                changes: steps.iter().map(|step| wire(environment, step, None)).collect(),
                revision: before,
            }),
            Outcome::Committed(committed) => Ok(ApplyConfigResponse {
                changes: steps
                    .iter()
                    .zip(committed.etags)
                    .map(|(step, etag)| wire(environment, step, Some(etag)))
                    .collect(),
                revision: committed.config_revision.unwrap_or(before),
            }),
            Outcome::Replayed(ids) => self.replayed(environment, &ids).await,
        }
    }

    /// What an earlier call with the same request id wrote, as it is now.
    async fn replayed(
        &self,
        environment: &Id,
        ids: &[String],
    ) -> Result<ApplyConfigResponse, Error> {
        let Held { revision, upstreams, routes } = self.held(environment).await?;
        let mut changes = Vec::new();
        for id in ids {
            let is_it = |stored: &&Stored<Upstream>| stored.object.model.upstream_id.as_str() == id;
            let upstream = upstreams.iter().find(is_it);
            let is_it = |stored: &&Stored<Route>| stored.object.model.route_id.as_str() == id;
            let route = routes.iter().find(is_it);
            let after = match (upstream, route) {
                (Some(upstream), _) => After::Upstream(upstreams::wire(environment, upstream)),
                (None, Some(route)) => After::Route(routes::wire(environment, route)),
                (None, None) => continue,
            };
            changes.push(ConfigChange {
                action: Action::Unspecified.into(),
                before: None,
                after: Some(after),
            });
        }
        Ok(ApplyConfigResponse { changes, revision })
    }
}

/// A step as users see it, with the etag it led to. Before it was taken it has none, and the id
/// of a new route is not settled either.
fn wire(environment: &Id, step: &Step, etag: Option<String>) -> ConfigChange {
    let (exists, before, after) = match step {
        Step::Upstream { before, after } => {
            let mut shown = after.wire.clone();
            shown.environment = environment.to_string();
            shown.etag = etag.unwrap_or_default();
            let before = before.as_ref().map(|stored| upstreams::wire(environment, stored));
            (before.is_some(), before.map(Before::UpstreamBefore), After::Upstream(shown))
        }
        Step::Route { before, after, made_up } => {
            let mut shown = after.wire.clone();
            shown.environment = environment.to_string();
            if *made_up && etag.is_none() {
                shown.route_id.clear();
            }
            shown.etag = etag.unwrap_or_default();
            let before = before.as_ref().map(|stored| routes::wire(environment, stored));
            (before.is_some(), before.map(Before::RouteBefore), After::Route(shown))
        }
    };
    let action = if exists { Action::Update } else { Action::Create };
    ConfigChange { action: action.into(), before, after: Some(after) }
}
