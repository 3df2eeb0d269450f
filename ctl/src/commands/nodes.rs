//! `fgctl nodes`.

mod tokens;

use std::time::SystemTime;

use fastgate::admin::v1::{
    GetNodeConfigRequest, ListNodesRequest, ListNodesResponse, NamespaceConfig, Node, NodeConfig,
    RevokeNodeRequest,
};

use super::{config, pages};
use crate::{
    cli::{Form, ListedNodes, NodeCommand, NodesArgs},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    NodesArgs { command, listed }: NodesArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match command.unwrap_or(NodeCommand::List(listed)) {
        NodeCommand::List(listed) => list(listed, client, output).await,
        NodeCommand::Config { node_id, document } => {
            show_config(node_id, document, client, output).await
        }
        NodeCommand::Revoke { node_id } => {
            let environment = client.environment();
            let request = RevokeNodeRequest { node_id: node_id.clone(), environment };
            client.nodes().revoke_node(request).await?;
            output.remark(&format!("node {node_id} is revoked"))
        }
        NodeCommand::Tokens(command) => tokens::run(command, client, output).await,
    }
}

/// Shows what a node serves from.
async fn show_config(
    node_id: String,
    document: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let environment = client.environment();
    let request = GetNodeConfigRequest { node_id, environment, with_config: document };
    let held = client.nodes().get_node_config(request).await?.into_inner();
    if document {
        let text = config::exported(&held.document.unwrap_or_default(), output.form())?;
        return output.text(&text);
    }
    if output.form() != Form::Table {
        return output.object("NodeConfig", &held);
    }
    output.rows(sides(&held))?;
    output.text("\n")?;
    output.rows(counts(&held))
}

fn sides(held: &NodeConfig) -> Rows {
    let row = |(name, side): (&str, &Option<NamespaceConfig>)| {
        let side = side.as_ref()?;
        let compared = match side.compared.as_str() {
            "match" => "as the control plane's",
            "differ" => "differs from the control plane's",
            _ => "can't be compared",
        };
        Some(vec![
            name.to_owned(),
            side.revision.to_string(),
            side.head.to_string(),
            side.digest.clone(),
            compared.to_owned(),
            side.epoch.clone(),
        ])
    };
    let rows = [("keys", &held.keys), ("config", &held.config)].into_iter().filter_map(row);
    Rows {
        noun: "revisions",
        header: &["NAMESPACE", "REVISION", "HEAD", "DIGEST", "COMPARED", "EPOCH"],
        rows: rows.collect(),
        more: false,
    }
}

fn counts(held: &NodeConfig) -> Rows {
    let limit = match held.default_rate_limit {
        0 => "none".to_owned(),
        limit => limit.to_string(),
    };
    let counts = [
        ("keys", held.key_count.to_string()),
        ("denied as their record is bad", held.quarantined_count.to_string()),
        ("routes", held.route_count.to_string()),
        ("upstreams", held.upstream_count.to_string()),
        ("plans", held.plan_count.to_string()),
        ("key limit a minute", limit),
    ];
    let rows = counts.map(|(what, count)| vec![what.to_owned(), count]).to_vec();
    Rows { noun: "counts", header: &[], rows, more: false }
}

async fn list(
    ListedNodes { all, page }: ListedNodes,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut nodes = client.nodes();
    let environment = if all { String::new() } else { client.environment() };
    let (nodes, more) = pages(page.limit, async |page_size, page_token| {
        let environment = environment.clone();
        let request = ListNodesRequest { environment, page_size, page_token };
        let answer = nodes.list_nodes(request).await?.into_inner();
        Ok((answer.nodes, answer.next_page_token))
    })
    .await?;
    let rows = rows(&nodes, more);
    output.list("ListNodesResponse", &ListNodesResponse { nodes, ..Default::default() }, rows)
}

fn rows(nodes: &[Node], more: bool) -> Rows {
    let revision = |revision: u64, lag: u64| match lag {
        0 => revision.to_string(),
        lag => format!("{revision} ({lag} behind)"),
    };
    let row = |node: &Node| {
        vec![
            node.node_id.clone(),
            node.environment.clone(),
            node.labels.join(","),
            if node.connected { "connected" } else { "away" }.into(),
            revision(node.keys_revision, node.keys_lag),
            revision(node.config_revision, node.config_lag),
            node.digests.clone(),
            node.limits_state.clone(),
            node.events_produced.to_string(),
            node.events_stored.to_string(),
            spooled(node),
            node.events_dropped.to_string(),
            spool(node),
            uptime(node),
            time(node.last_seen_at.as_ref()),
            time(node.certificate_expires_at.as_ref()),
            node.version.clone(),
            node.last_nack.clone(),
        ]
    };
    Rows {
        noun: "nodes",
        header: &[
            "NODE ID",
            "ENVIRONMENT",
            "LABELS",
            "STATE",
            "KEYS REV",
            "CONFIG REV",
            "DIGESTS",
            "LIMITS",
            "PRODUCED",
            "STORED",
            "SPOOLED",
            "LOST",
            "SPOOL",
            "UP",
            "LAST SEEN",
            "CERTIFICATE ENDS",
            "VERSION",
            "LAST REFUSAL",
        ],
        rows: nodes.iter().map(row).collect(),
        more,
    }
}

/// How long its process has run, in its two largest units; empty while it is away.
fn uptime(node: &Node) -> String {
    let started = node.started_at.filter(|_| node.connected).and_then(|at| at.try_into().ok());
    let up = started.and_then(|at: SystemTime| SystemTime::now().duration_since(at).ok());
    up.map(|up| span(up.as_secs())).unwrap_or_default()
}

fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Audit events that wait: those of this start, which with the stored and the lost ones are all it
/// produced, and those of earlier ones.
fn spooled(node: &Node) -> String {
    match node.events_left {
        0 => node.events_spooled.to_string(),
        left => format!("{} (+{left} of earlier starts)", node.events_spooled),
    }
}

/// How full the spool of audit events is.
fn spool(node: &Node) -> String {
    match (node.spool_limit, node.spool_full) {
        (0, _) => "none".into(),
        (_, true) => "full".into(),
        (limit, false) => format!("{} %", u128::from(node.spool_bytes) * 100 / u128::from(limit)),
    }
}
