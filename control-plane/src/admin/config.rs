//! Config as a whole: many routes, upstreams and plans in one revision.

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
    change::{Draft, Kept as _, caller},
    diff::{Step, diff},
    missing, plans,
    repeat::Answer,
    routes, upstreams,
};
use crate::{
    domain::{CallId, Committed},
    error::Error,
    store::{Held, StoreError},
};

const APPLY: &str = "fastgate.admin.v1.ConfigService/ApplyConfig";

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
        let held = self.store.config(&environment).await.map_err(Error::from)?;
        let faults = match diff(&environment, config, held) {
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
        let held = self.store.config(&environment).await.map_err(Error::from)?;
        let revision = held.revision;
        let steps = diff(&environment, config, held)?;
        let changes = steps.iter().map(|step| wire(&environment, step, true)).collect();
        Ok(Response::new(DiffConfigResponse { changes, revision }))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let ApplyConfigRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(APPLY, &request, request_id, *validate_only)?;
        let ApplyConfigRequest { config, environment, validate_only, .. } = request;
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let draft = Draft { environment, actor, action: APPLY, validate_only };
        let mut tries = ATTEMPTS;
        loop {
            tries -= 1;
            match self.apply(&draft, config.clone(), call.clone()).await {
                // What was found no longer fits what is stored: a new look says why, or does.
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
        let held = self.store.config(&environment).await.map_err(Error::from)?;
        let Held { upstreams, routes, plans, .. } = held;
        // What the store adds is left out: the document also applies to another environment.
        Ok(Response::new(Config {
            environment: environment.to_string(),
            upstreams: upstreams.into_iter().map(|stored| stored.object.wire).collect(),
            routes: routes.into_iter().map(|stored| stored.object.wire).collect(),
            plans: plans.into_iter().map(|stored| stored.object.wire).collect(),
        }))
    }
}

impl Admin {
    /// Compares and writes once.
    async fn apply(
        &self,
        draft: &Draft,
        config: Config,
        call: Option<CallId>,
    ) -> Result<ApplyConfigResponse, Error> {
        // Before every look: the config may have changed because this very call came before.
        if let Some(first) = self.first_answer(call.as_ref()).await? {
            return Ok(first);
        }
        let environment = &draft.environment;
        let held = self.store.config(environment).await?;
        let revision = held.revision;
        let steps = diff(environment, config, held)?;
        let ops: Vec<_> = steps.iter().map(Step::op).collect();
        let is_dry = draft.validate_only;
        let changes = steps.iter().map(|step| wire(environment, step, is_dry)).collect();
        let answer = ApplyConfigResponse { changes, revision };
        // Nothing to change is still to be kept, where the call may come again.
        if ops.is_empty() && call.is_none() {
            return Ok(answer);
        }
        Ok(self.answer(draft, ops, call, answer).await?.answer)
    }
}

impl Answer for ApplyConfigResponse {
    fn complete(&mut self, committed: &Committed) {
        for (change, etag) in self.changes.iter_mut().zip(&committed.etags) {
            let (created_at, updated_at, shown) = match &mut change.after {
                Some(After::Route(route)) => {
                    (&mut route.created_at, &mut route.updated_at, &mut route.etag)
                }
                Some(After::Upstream(upstream)) => {
                    (&mut upstream.created_at, &mut upstream.updated_at, &mut upstream.etag)
                }
                Some(After::Plan(plan)) => {
                    (&mut plan.created_at, &mut plan.updated_at, &mut plan.etag)
                }
                None => continue,
            };
            let at = committed.at.into();
            created_at.get_or_insert(at);
            *updated_at = Some(at);
            shown.clone_from(etag);
        }
        self.revision = committed.config_revision.unwrap_or(self.revision);
    }
}

/// A step as users see it, before the commit: what changes still has its etag and times. `is_dry`:
/// there will be no commit, so that the id of a new route is not settled.
fn wire(environment: &Id, step: &Step, is_dry: bool) -> ConfigChange {
    let (exists, before, after) = match step {
        Step::Upstream { before, after } => {
            let before = before.as_ref().map(|stored| upstreams::wire(environment, stored));
            let mut shown = after.shown(environment);
            if let Some(before) = &before {
                shown.etag.clone_from(&before.etag);
                (shown.created_at, shown.updated_at) = (before.created_at, before.updated_at);
            }
            (before.is_some(), before.map(Before::UpstreamBefore), After::Upstream(shown))
        }
        Step::Route { before, after, made_up } => {
            let before = before.as_ref().map(|stored| routes::wire(environment, stored));
            let mut shown = after.shown(environment);
            if let Some(before) = &before {
                shown.etag.clone_from(&before.etag);
                (shown.created_at, shown.updated_at) = (before.created_at, before.updated_at);
            }
            if *made_up && is_dry {
                shown.route_id.clear();
            }
            (before.is_some(), before.map(Before::RouteBefore), After::Route(shown))
        }
        Step::Plan { before, after } => {
            let before = before.as_ref().map(|stored| plans::wire(environment, stored));
            let mut shown = after.shown(environment);
            if let Some(before) = &before {
                shown.etag.clone_from(&before.etag);
                (shown.created_at, shown.updated_at) = (before.created_at, before.updated_at);
            }
            (before.is_some(), before.map(Before::PlanBefore), After::Plan(shown))
        }
    };
    let action = if exists { Action::Update } else { Action::Create };
    ConfigChange { action: action.into(), before, after: Some(after) }
}
