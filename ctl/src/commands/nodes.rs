//! `fgctl nodes`.

use fastgate::admin::v1::{ListNodesRequest, ListNodesResponse, Node};

use super::pages;
use crate::{
    cli::NodeCommand,
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: NodeCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let NodeCommand::List { all, page } = command;
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
            node.limits_state.clone(),
            node.events_stored.to_string(),
            (node.events_spooled + node.events_left).to_string(),
            node.events_dropped.to_string(),
            spool(node),
            time(node.last_seen_at.as_ref()),
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
            "LIMITS",
            "STORED",
            "SPOOLED",
            "LOST",
            "SPOOL",
            "LAST SEEN",
            "VERSION",
            "LAST REFUSAL",
        ],
        rows: nodes.iter().map(row).collect(),
        more,
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
