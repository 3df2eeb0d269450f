//! `fgctl plans`.

use fastgate::admin::v1::{
    CreatePlanRequest, DeletePlanRequest, GetPlanRequest, ListPlansRequest, ListPlansResponse,
    Plan, UpdatePlanRequest,
};

use super::{
    fields::{Changes, limited, limits},
    pages,
};
use crate::{
    cli::{Limit, PlanCommand, PlanFields},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: PlanCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut plans = client.plans();
    let environment = client.environment();
    match command {
        PlanCommand::List { page } => list(page, client, output).await,
        PlanCommand::Get { plan_id } => {
            let request = GetPlanRequest { plan_id, environment };
            output.object("Plan", plans.get_plan(request).await?.get_ref())
        }
        PlanCommand::Create { plan_id, fields, check } => {
            let mut plan = Plan { plan_id, ..Default::default() };
            set(fields, &mut plan, &mut Changes::default());
            let request = CreatePlanRequest {
                plan: Some(plan),
                environment,
                validate_only: check.dry_run,
                ..Default::default()
            };
            output.object("Plan", plans.create_plan(request).await?.get_ref())
        }
        PlanCommand::Update { plan_id, fields, clear, etag, check } => {
            let etag = etag.etag.unwrap_or_default();
            let mut plan = Plan { plan_id, etag, ..Default::default() };
            let mut changes = Changes::clearing(clear);
            set(fields, &mut plan, &mut changes);
            let request = UpdatePlanRequest {
                plan: Some(plan),
                update_mask: Some(changes.mask()?),
                environment,
                validate_only: check.dry_run,
            };
            output.object("Plan", plans.update_plan(request).await?.get_ref())
        }
        PlanCommand::Delete { plan_id, etag, check } => {
            let request = DeletePlanRequest {
                plan_id: plan_id.clone(),
                environment,
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            plans.delete_plan(request).await?;
            output.deleted("plan", &plan_id, check)
        }
    }
}

async fn list(page: Limit, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let mut plans = client.plans();
    let (plans, more) = pages(page.limit, async |page_size, page_token| {
        let environment = client.environment();
        let request = ListPlansRequest { environment, page_size, page_token };
        let answer = plans.list_plans(request).await?.into_inner();
        Ok((answer.plans, answer.next_page_token))
    })
    .await?;
    let rows = rows(&plans, more);
    output.list("ListPlansResponse", &ListPlansResponse { plans, ..Default::default() }, rows)
}

fn set(given: PlanFields, plan: &mut Plan, changes: &mut Changes) {
    changes.set("rate_limit", &mut plan.rate_limit, given.rate_limit);
    changes.set("rate_limit_fallback", &mut plan.rate_limit_fallback, given.rate_limit_fallback);
    changes.set_list("limits", &mut plan.limits, limits(given.limits));
    changes.set("description", &mut plan.description, given.description);
    changes.set_labels(&mut plan.labels, given.labels);
}

fn rows(plans: &[Plan], more: bool) -> Rows {
    let row = |plan: &Plan| {
        vec![
            plan.plan_id.clone(),
            limited(plan.rate_limit, &plan.limits),
            plan.description.clone(),
            time(plan.updated_at.as_ref()),
        ]
    };
    Rows {
        noun: "plans",
        header: &["PLAN ID", "LIMITS", "DESCRIPTION", "UPDATED"],
        rows: plans.iter().map(row).collect(),
        more,
    }
}
