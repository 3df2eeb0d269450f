//! Waiting until the nodes have a revision of the config, or say that they will not take it.

use std::time::Duration;

use fastgate::admin::v1::{
    GetRolloutRequest, ListNodesRequest, Node, NodeFault, NodeRefusal, Rollout, rollout::State,
};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{client::Client, commands::rollout::summary, error::Error, output::Output};

/// How often the control plane is asked.
const EVERY: Duration = Duration::from_millis(200);

/// Faults of one node that are told.
const TOLD: usize = 5;

/// Waits until every node that is connected has acknowledged the revision, and says how many have.
///
/// # Errors
/// At once where a node refuses it: no waiting helps. After `seconds`, else.
pub(super) async fn wait(
    client: &Client,
    environment: &str,
    revision: u64,
    seconds: u32,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    let (mut told, mut told_of_rollout) = (None, String::new());
    loop {
        // First: one that is taken back leaves nodes with a later revision, which is not what is waited for.
        if let Some(rollout) = rollout(client, environment, revision).await? {
            let summary = summary(&rollout);
            if matches!(rollout.state(), State::Stopped | State::RolledBack | State::Undone) {
                return Err(Error::TakenBack { revision, rollout: summary });
            }
            if told_of_rollout != summary {
                output.remark(&summary)?;
                told_of_rollout = summary;
            }
        }
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
        let refusing: Vec<_> = behind.iter().filter_map(|node| not_taken(node, revision)).collect();
        if !refusing.is_empty() {
            return Err(Error::NotTaken { revision, nodes: refusing.join("; ") });
        }
        if Instant::now() >= deadline {
            let nodes: Vec<_> = behind.into_iter().map(state).collect();
            return Err(Error::Behind { revision, seconds, nodes: nodes.join("; ") });
        }
        sleep(EVERY).await;
    }
}

/// The rollout of a revision, or of a later one that took its place.
async fn rollout(
    client: &Client,
    environment: &str,
    revision: u64,
) -> Result<Option<Rollout>, Error> {
    let request = GetRolloutRequest { environment: environment.to_owned() };
    match client.rollouts().get_rollout(request).await {
        Ok(answer) => {
            Ok(Some(answer.into_inner()).filter(|rollout| rollout.target_revision >= revision))
        }
        // There was none yet, or the control plane is of an earlier version.
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
        Err(status) => Err(status.into()),
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
    format!("{} is at {}", node.node_id, node.config_revision)
}

/// What a node says is wrong with a revision, or with a later one that did not mend it.
fn not_taken(node: &Node, revision: u64) -> Option<String> {
    let NodeRefusal { namespace, revision: refused, faults, fault_count } =
        node.refusal.as_ref()?;
    if namespace != "config" || *refused < revision {
        return None;
    }
    let mut told: Vec<_> = faults.iter().take(TOLD).map(fault).collect();
    let untold = (*fault_count as usize).saturating_sub(told.len());
    if untold > 0 {
        told.push(format!("{untold} more"));
    }
    Some(format!("{} refuses it: {}", node.node_id, told.join(", ")))
}

fn fault(fault: &NodeFault) -> String {
    let NodeFault { kind, id, field, message } = fault;
    if kind.is_empty() { message.clone() } else { format!("{kind} {id}: {field}: {message}") }
}
