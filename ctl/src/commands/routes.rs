//! `fgctl routes`.

use fastgate::admin::v1::{
    CreateRouteRequest, DeleteRouteRequest, GetRouteRequest, ListRoutesRequest, ListRoutesResponse,
    Recording, Route, UpdateRouteRequest,
};

use super::{
    fields::{Changes, limited, limits, targets},
    pages,
};
use crate::{
    cli::{Limit, RecordingFields, RouteCommand, RouteFields},
    client::Client,
    error::Error,
    output::{Output, Rows},
};

pub(super) async fn run(
    command: RouteCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut routes = client.routes();
    let environment = client.environment();
    match command {
        RouteCommand::List { page } => list(page, client, output).await,
        RouteCommand::Get { route_id } => {
            let request = GetRouteRequest { route_id, environment };
            output.object("Route", routes.get_route(request).await?.get_ref())
        }
        RouteCommand::Create { route_id, fields, check } => {
            let route_id = route_id.unwrap_or_default();
            let mut route = Route { route_id, ..Default::default() };
            set(*fields, &mut route, &mut Changes::default());
            let route = Some(route);
            let validate_only = check.dry_run;
            let request =
                CreateRouteRequest { route, environment, validate_only, ..Default::default() };
            output.object("Route", routes.create_route(request).await?.get_ref())
        }
        RouteCommand::Update { route_id, fields, clear, etag, check } => {
            let etag = etag.etag.unwrap_or_default();
            let mut route = Route { route_id, etag, ..Default::default() };
            let mut changes = Changes::clearing(clear);
            set(*fields, &mut route, &mut changes);
            // Each pair is one choice: setting one takes the other away.
            for (one, other) in [("path", "path_prefix"), ("targets", "upstream")] {
                changes.replace(one, other);
                changes.replace(other, one);
            }
            let update_mask = Some(changes.mask()?);
            let route = Some(route);
            let validate_only = check.dry_run;
            let request = UpdateRouteRequest { route, update_mask, environment, validate_only };
            output.object("Route", routes.update_route(request).await?.get_ref())
        }
        RouteCommand::Delete { route_id, etag, check } => {
            let request = DeleteRouteRequest {
                route_id: route_id.clone(),
                environment,
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            routes.delete_route(request).await?;
            output.deleted("route", &route_id, check)
        }
    }
}

async fn list(page: Limit, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let mut routes = client.routes();
    let (routes, more) = pages(page.limit, async |page_size, page_token| {
        let environment = client.environment();
        let request = ListRoutesRequest { environment, page_size, page_token };
        let answer = routes.list_routes(request).await?.into_inner();
        Ok((answer.routes, answer.next_page_token))
    })
    .await?;
    let rows = rows(&routes, more);
    let answer = ListRoutesResponse { routes, ..Default::default() };
    output.list("ListRoutesResponse", &answer, rows)
}

fn set(given: RouteFields, route: &mut Route, changes: &mut Changes) {
    changes.set("name", &mut route.name, given.name);
    changes.set("host", &mut route.host, given.host);
    changes.set("path", &mut route.path, given.path);
    changes.set("path_prefix", &mut route.path_prefix, given.path_prefix);
    let methods = given.methods.iter().map(|method| method.to_ascii_uppercase()).collect();
    changes.set_list("methods", &mut route.methods, methods);
    changes.set_list("targets", &mut route.targets, targets(given.targets));
    changes.set("upstream", &mut route.upstream, given.upstream);
    changes.set("timeout", &mut route.timeout, given.timeout);
    changes.set("retry_count", &mut route.retry_count, given.retry_count);
    changes.set("auth_required", &mut route.auth_required, given.auth_required);
    let permissions = given.required_permissions;
    changes.set_list("required_permissions", &mut route.required_permissions, permissions);
    changes.set("rate_limit", &mut route.rate_limit, given.rate_limit);
    changes.set("rate_limit_fallback", &mut route.rate_limit_fallback, given.rate_limit_fallback);
    changes.set_list("limits", &mut route.limits, limits(given.limits));
    changes.set("strip_prefix", &mut route.strip_prefix, given.strip_prefix);
    changes.set("rewrite", &mut route.rewrite, given.rewrite);
    changes.set("priority", &mut route.priority, given.priority);
    changes.set("allow_encoded_slash", &mut route.allow_encoded_slash, given.allow_encoded_slash);
    changes.set_labels(&mut route.labels, given.labels);
    set_recording(given.recording, &mut route.recording, changes);
}

/// Each of its fields for itself, so that the others stay as they are.
fn set_recording(given: RecordingFields, recording: &mut Option<Recording>, changes: &mut Changes) {
    let mut set = Recording::default();
    let headers = given.request_headers;
    changes.set_list("recording.request_headers", &mut set.request_headers, headers);
    let headers = given.response_headers;
    changes.set_list("recording.response_headers", &mut set.response_headers, headers);
    changes.set("recording.success_sample", &mut set.success_sample, given.success_sample);
    let bytes = given.request_body_bytes;
    changes.set("recording.request_body_bytes", &mut set.request_body_bytes, bytes);
    let bytes = given.response_body_bytes;
    changes.set("recording.response_body_bytes", &mut set.response_body_bytes, bytes);
    changes.set_list("recording.body_types", &mut set.body_types, given.body_types);
    changes.set_list("recording.redact", &mut set.redact, given.redact);
    *recording = Some(set).filter(|set| *set != Recording::default());
}

fn rows(routes: &[Route], more: bool) -> Rows {
    let row = |route: &Route| {
        let path = if route.path_prefix.is_empty() {
            route.path.clone()
        } else {
            format!("{}/*", route.path_prefix.trim_end_matches('/'))
        };
        let to = if route.upstream.is_empty() {
            route.targets.iter().map(|target| &*target.url).collect::<Vec<_>>().join(",")
        } else {
            route.upstream.clone()
        };
        vec![
            route.route_id.clone(),
            route.name.clone(),
            if route.host.is_empty() { "*".into() } else { route.host.clone() },
            path,
            if route.methods.is_empty() { "*".into() } else { route.methods.join(",") },
            to,
            if route.auth_required.unwrap_or(true) { "key" } else { "none" }.into(),
            limited(route.rate_limit, &route.limits),
        ]
    };
    Rows {
        noun: "routes",
        header: &["ROUTE ID", "NAME", "HOST", "PATH", "METHODS", "TO", "AUTH", "LIMITS"],
        rows: routes.iter().map(row).collect(),
        more,
    }
}
