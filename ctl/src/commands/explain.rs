//! `fgctl explain`.

use fastgate::admin::v1::{
    ExplainRequest, Explanation, KeyFinding, LimitFinding, PermissionFinding, RequestHeader,
    RouteCandidate, TargetFinding,
};
use secrecy::ExposeSecret as _;

use super::fields::limit_arg;
use crate::{
    cli::{ExplainArgs, Form},
    client::Client,
    context::read_secret,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    args: ExplainArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let request = request(args, client.environment())?;
    let asked = format!("{} {}", request.method, request.target);
    let said = client.nodes().explain(request).await?.into_inner();
    if output.form() != Form::Table {
        return output.object("Explanation", &said);
    }
    output.rows(summary(&asked, &said))?;
    let further = [
        routes(&said.candidates, said.other_routes),
        permissions(&said.permissions),
        limits(&said.limits),
        targets(&said.targets),
    ];
    for rows in further.into_iter().filter(|rows| !rows.rows.is_empty()) {
        output.text("\n")?;
        output.rows(rows)?;
    }
    Ok(())
}

fn request(args: ExplainArgs, environment: String) -> Result<ExplainRequest, Error> {
    let ExplainArgs { method, target, headers, key_file, key_id, node, from } = args;
    let mut headers: Vec<_> = headers
        .into_iter()
        .map(|line| RequestHeader { name: line.name, value: line.value.expose_secret().to_owned() })
        .collect();
    if let Some(file) = key_file {
        let secret = read_secret(&file, "key file", "the secret of an API key")?;
        let value = secret.expose_secret().to_owned();
        headers.push(RequestHeader { name: "X-API-Key".into(), value });
    }
    Ok(ExplainRequest {
        environment,
        node_id: node.unwrap_or_default(),
        method,
        target,
        headers,
        from: from.map(|address| address.to_string()).unwrap_or_default(),
        key_id: key_id.unwrap_or_default(),
    })
}

fn summary(asked: &str, said: &Explanation) -> Rows {
    let mut rows = vec![
        vec!["request".to_owned(), asked.to_owned()],
        vec!["from".to_owned(), said.client_address.clone()],
        vec![
            "node".to_owned(),
            format!(
                "{} (keys revision {}, config revision {})",
                said.node_id, said.keys_revision, said.config_revision
            ),
        ],
    ];
    if let Some(key) = &said.key {
        rows.push(vec!["key".to_owned(), described(key)]);
    }
    if !said.limits_fault.is_empty() {
        let fault = format!("can't be told: the node {}", said.limits_fault);
        rows.push(vec!["limits".to_owned(), fault]);
    }
    rows.push(vec!["outcome".to_owned(), outcome(said)]);
    Rows { noun: "answers", header: &[], rows, more: false }
}

fn outcome(said: &Explanation) -> String {
    match (said.status_code, said.error.as_str()) {
        (0, _) if said.limits_fault.is_empty() => {
            format!("goes upstream by route {}", said.route_id)
        }
        (0, _) => format!("goes upstream by route {}, if the limits let it", said.route_id),
        (status, "") => format!("{status}: {}", said.detail),
        (status, error) => format!("{status} {error}: {}", said.detail),
    }
}

fn described(key: &KeyFinding) -> String {
    let state = match key.state.as_str() {
        "not_asked" => "not asked for",
        state => state,
    };
    if key.key_id.is_empty() {
        return state.to_owned();
    }
    let mut text = format!("{}: {state}, of {}", key.key_id, key.source_path);
    if !key.plan_id.is_empty() {
        text += &format!(", on plan {}", key.plan_id);
    }
    if key.expires_at.is_some() {
        text += &format!(", ends {}", time(key.expires_at.as_ref()));
    }
    text
}

fn routes(candidates: &[RouteCandidate], others: u32) -> Rows {
    let row = |route: &RouteCandidate| {
        let path = if route.path_prefix.is_empty() {
            route.path.clone()
        } else {
            format!("{}/*", route.path_prefix.trim_end_matches('/'))
        };
        vec![
            route.route_id.clone(),
            if route.host.is_empty() { "*".into() } else { route.host.clone() },
            path,
            if route.methods.is_empty() { "*".into() } else { route.methods.join(",") },
            route.priority.to_string(),
            route.outcome.replace('_', " "),
            route.detail.clone(),
        ]
    };
    let mut rows: Vec<_> = candidates.iter().map(row).collect();
    if others > 0 {
        let mut rest = vec![String::new(); 7];
        if let Some(first) = rest.first_mut() {
            *first = format!("and {others} more");
        }
        rows.push(rest);
    }
    let header = &["ROUTE", "HOST", "PATH", "METHODS", "PRIORITY", "OUTCOME", "WHY"];
    Rows { noun: "routes", header, rows, more: false }
}

fn permissions(asked: &[PermissionFinding]) -> Rows {
    let row = |asked: &PermissionFinding| {
        let held = if asked.held.is_empty() { "missing" } else { &asked.held };
        vec![asked.permission.clone(), held.to_owned()]
    };
    let rows = asked.iter().map(row).collect();
    Rows { noun: "permissions", header: &["PERMISSION", "HELD AS"], rows, more: false }
}

fn limits(found: &[LimitFinding]) -> Rows {
    let row = |found: &LimitFinding| {
        let standing = found.standing.clone().unwrap_or_default();
        let admits = standing.limit.as_ref().map(|limit| limit_arg(limit).admits());
        vec![
            standing.name,
            admits.unwrap_or_default(),
            standing.remaining.to_string(),
            format!("{}s", standing.reset),
            standing.counted_by,
            if found.admits { "passes" } else { "refuses" }.into(),
        ]
    };
    let header = &["LIMIT", "ADMITS", "REMAINING", "RESET", "COUNTED BY", "REQUEST"];
    Rows { noun: "limits", header, rows: found.iter().map(row).collect(), more: false }
}

fn targets(found: &[TargetFinding]) -> Rows {
    let row = |found: &TargetFinding| {
        let share = format!("{:.0} %", found.share * 100.0);
        vec![found.url.clone(), share, found.request_url.clone()]
    };
    let rows = found.iter().map(row).collect();
    Rows { noun: "targets", header: &["TARGET", "SHARE", "ASKED FOR"], rows, more: false }
}
