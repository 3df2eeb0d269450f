//! Plans: the named sets of limits that keys refer to.

use std::sync::Arc;

use async_trait::async_trait;
use fastgate::{
    admin::v1::{
        CreatePlanRequest, DeletePlanRequest, GetPlanRequest, ListPlansRequest, ListPlansResponse,
        Plan as WirePlan, UpdatePlanRequest, plan_service_server::PlanService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, Kept, caller},
    mask::Updatable,
    missing,
    page::Paging,
    parse_id,
    repeat::Answer,
};
use crate::{
    domain::{Committed, Expect, Object, Op, Plan, Stored},
    error::Error,
    store::{Cursor, Store, StoreError},
};

const CREATE: &str = "fastgate.admin.v1.PlanService/CreatePlan";

const UPDATABLE: Updatable = Updatable {
    message: "fastgate.admin.v1.Plan",
    fixed: &["plan_id", "environment", "created_at", "updated_at", "etag"],
};

#[tonic::async_trait]
impl PlanService for Admin {
    async fn create_plan(
        &self,
        request: Request<CreatePlanRequest>,
    ) -> Result<Response<WirePlan>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let CreatePlanRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(CREATE, &request, request_id, *validate_only)?;
        if let Some(plan) = self.first_answer(call.as_ref()).await? {
            return Ok(Response::new(plan));
        }
        let CreatePlanRequest { plan, environment, validate_only, .. } = request;
        let sent = plan.ok_or_else(|| missing("plan"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let plan = Plan::parse(sent).map_err(Error::from)?;
        let draft = Draft { environment, actor, action: CREATE, validate_only };
        let created = self.create(&draft, plan, call).await?;
        Ok(Response::new(created.answer))
    }

    async fn get_plan(
        &self,
        request: Request<GetPlanRequest>,
    ) -> Result<Response<WirePlan>, Status> {
        let GetPlanRequest { plan_id, environment } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("plan_id", &plan_id)?;
        let (stored, ()) = self.read(&environment, id.as_str()).await?;
        Ok(Response::new(wire(&environment, &stored)))
    }

    async fn list_plans(
        &self,
        request: Request<ListPlansRequest>,
    ) -> Result<Response<ListPlansResponse>, Status> {
        let ListPlansRequest { environment, page_size, page_token } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let list = ["plans", environment.as_str()];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let found = self.store.plans(&environment, &paging.query()).await;
        let (page, next_page_token) = paging.cut(found.map_err(Error::from)?, |plan| {
            Cursor::by_id(plan.object.model.plan_id.as_str())
        });
        let plans = page.iter().map(|plan| wire(&environment, plan)).collect();
        Ok(Response::new(ListPlansResponse { plans, next_page_token }))
    }

    async fn update_plan(
        &self,
        request: Request<UpdatePlanRequest>,
    ) -> Result<Response<WirePlan>, Status> {
        let actor = caller(&request)?;
        let UpdatePlanRequest { plan, update_mask, environment, validate_only } =
            request.into_inner();
        let sent = plan.ok_or_else(|| missing("plan"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let id = parse_id("plan_id", &sent.plan_id)?;
        let action = "fastgate.admin.v1.PlanService/UpdatePlan";
        let draft = Draft { environment, actor, action, validate_only };
        let (pool, etag) = (self.pool.clone(), sent.etag.clone());
        let updated = self.update(&draft, id.as_str(), &etag, move |stored: &Plan| {
            let mask = update_mask.as_ref();
            Ok(Plan::parse(UPDATABLE.merge(&pool, &stored.wire, &sent, mask)?)?)
        });
        Ok(Response::new(wire(&draft.environment, &updated.await?.0)))
    }

    async fn delete_plan(
        &self,
        request: Request<DeletePlanRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let DeletePlanRequest { plan_id, environment, etag, validate_only } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("plan_id", &plan_id)?;
        let action = "fastgate.admin.v1.PlanService/DeletePlan";
        let draft = Draft { environment, actor, action, validate_only };
        self.delete(&draft, etag, |expect| Op::DeletePlan(id, expect)).await?;
        Ok(Response::new(()))
    }
}

#[async_trait]
impl Kept for Plan {
    const KIND: &'static str = "plan";

    type Wire = WirePlan;
    type Aside = ();

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<(Stored<Self>, ())>, StoreError> {
        Ok(store.plan(environment, id).await?.map(|found| (found, ())))
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutPlan(Box::new(self), expect)
    }

    fn of(object: Object) -> Option<Stored<Self>> {
        match object {
            Object::Plan(found) => Some(found),
            _ => None,
        }
    }

    fn shown(&self, environment: &Id) -> WirePlan {
        WirePlan { environment: environment.to_string(), ..self.wire.clone() }
    }
}

impl Answer for WirePlan {
    fn complete(&mut self, committed: &Committed) {
        self.created_at = Some(committed.at.into());
        self.updated_at = self.created_at;
        self.etag = committed.etag();
    }
}

pub(super) fn wire(environment: &Id, stored: &Stored<Plan>) -> WirePlan {
    WirePlan {
        created_at: Some(stored.created_at.into()),
        updated_at: Some(stored.updated_at.into()),
        etag: stored.etag.clone(),
        ..stored.object.shown(environment)
    }
}
