//! `fgctl envs`.

use fastgate::{
    admin::v1::{
        CreateEnvironmentRequest, DeleteEnvironmentRequest, Environment, GetEnvironmentRequest,
        ListEnvironmentsRequest, ListEnvironmentsResponse, Ring, RolloutPolicy,
        UpdateEnvironmentRequest,
    },
    model::Settings,
};

use super::{fields::Changes, pages};
use crate::{
    cli::{EnvCommand, EnvFields, Limit, PolicyFields, RingArg},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: EnvCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut environments = client.environments();
    match command {
        EnvCommand::List { page } => list(page, client, output).await,
        EnvCommand::Get { name } => {
            let request = GetEnvironmentRequest { environment: name };
            output.object("Environment", environments.get_environment(request).await?.get_ref())
        }
        EnvCommand::Create { name, fields, check } => {
            let mut environment = Environment { environment: name, ..Default::default() };
            set(fields, &mut environment, &mut Changes::default());
            let request = CreateEnvironmentRequest {
                environment: Some(environment),
                validate_only: check.dry_run,
                ..Default::default()
            };
            output.object("Environment", environments.create_environment(request).await?.get_ref())
        }
        EnvCommand::Update { name, fields, clear, etag, check } => {
            let etag = etag.etag.unwrap_or_default();
            let mut environment = Environment { environment: name, etag, ..Default::default() };
            let mut changes = Changes::clearing(clear);
            set(fields, &mut environment, &mut changes);
            let request = UpdateEnvironmentRequest {
                environment: Some(environment),
                update_mask: Some(changes.mask()?),
                validate_only: check.dry_run,
            };
            output.object("Environment", environments.update_environment(request).await?.get_ref())
        }
        EnvCommand::Delete { name, etag, check } => {
            let request = DeleteEnvironmentRequest {
                environment: name.clone(),
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            environments.delete_environment(request).await?;
            output.deleted("environment", &name, check)
        }
    }
}

async fn list(page: Limit, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let mut environments = client.environments();
    let (environments, more) = pages(page.limit, async |page_size, page_token| {
        let request = ListEnvironmentsRequest { page_size, page_token };
        let answer = environments.list_environments(request).await?.into_inner();
        Ok((answer.environments, answer.next_page_token))
    })
    .await?;
    let rows = rows(&environments, more);
    let answer = ListEnvironmentsResponse { environments, ..Default::default() };
    output.list("ListEnvironmentsResponse", &answer, rows)
}

fn set(given: EnvFields, environment: &mut Environment, changes: &mut Changes) {
    changes.set("description", &mut environment.description, given.description);
    let limit = given.default_rate_limit;
    changes.set("default_rate_limit", &mut environment.default_rate_limit, limit);
    set_rollout(given.rollout, environment, changes);
}

/// Sets what is given of the policy; the rest of it stays.
fn set_rollout(given: PolicyFields, environment: &mut Environment, changes: &mut Changes) {
    let PolicyFields { rings, hold, max_error_rate, max_p99_ms, max_p99_ratio, min_requests } =
        given;
    let mut policy = RolloutPolicy::default();
    let ring = |RingArg { name, labels, share }| Ring { name, labels, share };
    let rings = rings.into_iter().map(ring);
    changes.set_list("rollout.rings", &mut policy.rings, rings.collect());
    changes.set("rollout.hold", &mut policy.hold, hold);
    changes.set("rollout.max_error_rate", &mut policy.max_error_rate, max_error_rate);
    changes.set("rollout.max_p99_ms", &mut policy.max_p99_ms, max_p99_ms);
    changes.set("rollout.max_p99_ratio", &mut policy.max_p99_ratio, max_p99_ratio);
    changes.set("rollout.min_requests", &mut policy.min_requests, min_requests);
    if policy != RolloutPolicy::default() {
        environment.rollout = Some(policy);
    }
}

fn rows(environments: &[Environment], more: bool) -> Rows {
    let row = |environment: &Environment| {
        let limit = environment.default_rate_limit.unwrap_or(Settings::DEFAULT_RATE_LIMIT);
        vec![
            environment.environment.clone(),
            if limit == 0 { "none".into() } else { limit.to_string() },
            environment.keys_revision.to_string(),
            environment.config_revision.to_string(),
            rings(environment),
            time(environment.created_at.as_ref()),
            environment.description.clone(),
        ]
    };
    Rows {
        noun: "environments",
        header: &[
            "ENVIRONMENT",
            "KEY LIMIT/MIN",
            "KEYS REV",
            "CONFIG REV",
            "ROLLOUT",
            "CREATED",
            "DESCRIPTION",
        ],
        rows: environments.iter().map(row).collect(),
        more,
    }
}

/// The rings a change goes through.
fn rings(environment: &Environment) -> String {
    let rings = environment.rollout.iter().flat_map(|policy| &policy.rings);
    let names: Vec<_> = rings.map(|ring| ring.name.as_str()).collect();
    if names.is_empty() { "at once".into() } else { names.join(", ") }
}
