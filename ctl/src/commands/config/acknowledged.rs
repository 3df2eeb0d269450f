//! Waiting until the nodes have a revision of the config.

use std::time::Duration;

use fastgate::admin::v1::{ListNodesRequest, Node};
use tokio::time::{Instant, sleep};

use crate::{client::Client, error::Error, output::Output};

/// How often the control plane is asked.
const EVERY: Duration = Duration::from_millis(200);

/// Waits until every node that is connected has acknowledged the revision, and says how many have.
pub(super) async fn wait(
    client: &Client,
    environment: &str,
    revision: u64,
    seconds: u32,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    let mut told = None;
    loop {
        let nodes = connected(client, environment).await?;
        let behind: Vec<_> = nodes.iter().filter(|node| node.config_revision < revision).collect();
        let count = (nodes.len() - behind.len(), nodes.len());
        if told != Some(count) {
            told = Some(count);
            let (there, all) = count;
            output.remark(&format!("{there} of {all} connected nodes have revision {revision}"))?;
        }
        if behind.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let nodes: Vec<_> = behind.into_iter().map(state).collect();
            return Err(Error::Behind { revision, seconds, nodes: nodes.join("; ") });
        }
        sleep(EVERY).await;
    }
}

async fn connected(client: &Client, environment: &str) -> Result<Vec<Node>, Error> {
    let mut nodes = Vec::new();
    let mut page_token = String::new();
    loop {
        let environment = environment.to_owned();
        let request = ListNodesRequest { environment, page_size: 0, page_token };
        let answer = client.nodes().list_nodes(request).await?.into_inner();
        nodes.extend(answer.nodes.into_iter().filter(|node| node.connected));
        if answer.next_page_token.is_empty() {
            return Ok(nodes);
        }
        page_token = answer.next_page_token;
    }
}

fn state(node: &Node) -> String {
    let Node { node_id, config_revision, last_nack, .. } = node;
    let at = format!("{node_id} is at {config_revision}");
    if last_nack.is_empty() { at } else { format!("{at} and last refused: {last_nack}") }
}
