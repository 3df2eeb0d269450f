//! Config as a whole: many routes, upstreams and plans in one revision.

use fastgate::{
    admin::v1::{
        ApplyConfigRequest, ApplyConfigResponse, Config, ConfigChange, DiffConfigRequest,
        DiffConfigResponse, DiffRevisionsRequest, ExportConfigRequest, GetRevisionRequest,
        ListRevisionsRequest, ListRevisionsResponse, RollbackConfigRequest, ValidateConfigRequest,
        ValidateConfigResponse, Violation,
        config_change::{Action, After, Before},
        config_service_server::ConfigService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, Kept as _, caller},
    diff::{Step, check_jump, diff},
    missing, plans,
    repeat::Answer,
    routes, upstreams,
};
use crate::{
    domain::{CallId, Committed, Selector},
    error::Error,
    store::{Held, StoreError},
};

const APPLY: &str = "fastgate.admin.v1.ConfigService/ApplyConfig";
const ROLLBACK: &str = "fastgate.admin.v1.ConfigService/RollbackConfig";

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
        let faults = match diff(&environment, config, held, false, &Selector::default()) {
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
        let DiffConfigRequest { config, environment, prune, selector } = request.into_inner();
        let meant = parse_selector(&selector)?;
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let held = self.store.config(&environment).await.map_err(Error::from)?;
        let revision = held.revision;
        let steps = diff(&environment, config, held, prune, &meant)?;
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
        let ApplyConfigRequest {
            config, environment, validate_only, prune, force, selector, ..
        } = request;
        let meant = parse_selector(&selector)?;
        let config = config.ok_or_else(|| missing("config"))?;
        let environment = self.environment(&environment, &config.environment).await?;
        let pruning = match (prune, force) {
            (false, true) => {
                return Err(Error::field("force", "is for prune: leave it out").into());
            }
            (false, false) => Pruning::Never,
            (true, false) => Pruning::Few,
            (true, true) => Pruning::All,
        };
        let draft = Draft { environment, actor, action: APPLY, validate_only };
        Ok(Response::new(self.apply(&draft, config, (pruning, &meant), call).await?))
    }

    async fn export_config(
        &self,
        request: Request<ExportConfigRequest>,
    ) -> Result<Response<Config>, Status> {
        let ExportConfigRequest { environment, selector } = request.into_inner();
        let meant = parse_selector(&selector)?;
        let environment = self.environment(&environment, "").await?;
        let mut held = self.store.config(&environment).await.map_err(Error::from)?;
        held.routes.retain(|stored| meant.fits(&stored.object.wire.labels));
        held.upstreams.retain(|stored| meant.fits(&stored.object.wire.labels));
        held.plans.retain(|stored| meant.fits(&stored.object.wire.labels));
        Ok(Response::new(document(&environment, held)))
    }

    async fn list_revisions(
        &self,
        request: Request<ListRevisionsRequest>,
    ) -> Result<Response<ListRevisionsResponse>, Status> {
        Ok(Response::new(self.revisions(request.into_inner()).await?))
    }

    async fn get_revision(
        &self,
        request: Request<GetRevisionRequest>,
    ) -> Result<Response<Config>, Status> {
        Ok(Response::new(self.revision(request.into_inner()).await?))
    }

    async fn diff_revisions(
        &self,
        request: Request<DiffRevisionsRequest>,
    ) -> Result<Response<DiffConfigResponse>, Status> {
        Ok(Response::new(self.diff_of_revisions(request.into_inner()).await?))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let RollbackConfigRequest { revision, validate_only, request_id, force, .. } = &request;
        let call = Self::call_id(ROLLBACK, &request, request_id, *validate_only)?;
        let environment = self.environment(&request.environment, "").await?;
        let held = self.held_at(&environment, "revision", *revision).await?;
        let config = document(&environment, held);
        let draft = Draft { environment, actor, action: ROLLBACK, validate_only: *validate_only };
        let pruning = if *force { Pruning::All } else { Pruning::Few };
        let pruning = (pruning, &Selector::default());
        Ok(Response::new(self.apply(&draft, config, pruning, call).await?))
    }
}

/// A config as a document. What the store adds is left out: it also applies to another environment.
pub(super) fn document(environment: &Id, held: Held) -> Config {
    let Held { upstreams, routes, plans, .. } = held;
    Config {
        environment: environment.to_string(),
        upstreams: upstreams.into_iter().map(|stored| stored.object.wire).collect(),
        routes: routes.into_iter().map(|stored| stored.object.wire).collect(),
        plans: plans.into_iter().map(|stored| stored.object.wire).collect(),
    }
}

fn parse_selector(text: &str) -> Result<Selector, Error> {
    text.parse().map_err(|fault: String| Error::field("selector", fault))
}

/// What becomes of objects that the document does not hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pruning {
    Never,
    /// They are deleted, unless that is much of what there is.
    Few,
    /// They are deleted.
    All,
}

impl Admin {
    /// Compares and writes, anew where the config changed in between.
    async fn apply(
        &self,
        draft: &Draft,
        config: Config,
        pruning: (Pruning, &Selector),
        call: Option<CallId>,
    ) -> Result<ApplyConfigResponse, Error> {
        let mut tries = ATTEMPTS;
        loop {
            tries -= 1;
            match self.apply_once(draft, config.clone(), pruning, call.clone()).await {
                // What was found no longer fits what is stored: a new look says why, or does.
                Err(Error::Store(
                    StoreError::Stale { .. }
                    | StoreError::Exists { .. }
                    | StoreError::RouteCollision { .. }
                    | StoreError::NameTaken { .. }
                    | StoreError::UnknownUpstream { .. }
                    | StoreError::UpstreamInUse { .. },
                )) if tries > 0 => {}
                applied => return applied,
            }
        }
    }

    /// Compares and writes once.
    async fn apply_once(
        &self,
        draft: &Draft,
        config: Config,
        (pruning, meant): (Pruning, &Selector),
        call: Option<CallId>,
    ) -> Result<ApplyConfigResponse, Error> {
        // Before every look: the config may have changed because this very call came before.
        if let Some(first) = self.first_answer(call.as_ref()).await? {
            return Ok(first);
        }
        let environment = &draft.environment;
        let held = self.store.config(environment).await?;
        let revision = held.revision;
        let stored = held.routes.len() + held.upstreams.len() + held.plans.len();
        let steps = diff(environment, config, held, pruning != Pruning::Never, meant)?;
        if pruning == Pruning::Few {
            check_jump(&steps, stored)?;
        }
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
pub(super) fn wire(environment: &Id, step: &Step, is_dry: bool) -> ConfigChange {
    let (exists, before, after) = match step {
        Step::DeleteRoute(gone) => {
            return deleted(Before::RouteBefore(routes::wire(environment, gone)));
        }
        Step::DeleteUpstream(gone) => {
            return deleted(Before::UpstreamBefore(upstreams::wire(environment, gone)));
        }
        Step::DeletePlan(gone) => {
            return deleted(Before::PlanBefore(plans::wire(environment, gone)));
        }
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

fn deleted(before: Before) -> ConfigChange {
    ConfigChange { action: Action::Delete.into(), before: Some(before), after: None }
}
