//! What can be wrong with an environment: its nodes, its keys, its audit log.

use std::time::{Duration, SystemTime};

use fastgate::admin::v1::{
    Environment, EnvironmentStatus, ListGapsRequest, ListNodesRequest, LogGap, Node, SetBack,
};
use tokio::time::sleep;
use tonic::Code;

use super::{Findings, Level, node};
use crate::{client::Client, error::Error, output::time};

/// Nodes are given that long to take what was committed just now.
const SETTLE: Duration = Duration::from_secs(2);

/// Gaps of the audit log this old are no news.
const LATELY: Duration = Duration::from_secs(86_400);

/// Looks at an environment; `settings` are what the database has of it, as far as it could be read.
pub(super) async fn look(
    environment: &EnvironmentStatus,
    settings: Option<&Environment>,
    version: &str,
    client: &Client,
    found: &mut Findings,
) -> Result<(), Error> {
    let name = environment.environment.as_str();
    let mut nodes = nodes(client, name).await?;
    if nodes.iter().any(|node| node.connected && node.keys_lag + node.config_lag > 0) {
        sleep(SETTLE).await;
        nodes = self::nodes(client, name).await?;
    }
    let connected = nodes.iter().filter(|node| node.connected).count();
    let check = format!("environment {name}");
    if connected == 0 {
        let mend = "start one with --environment and --control-plane";
        found.add(Level::Warn, check.as_str(), "no node is connected", mend);
    } else {
        let noun = if connected == 1 { "node is" } else { "nodes are" };
        found.ok(check.as_str(), format!("{connected} {noun} connected"));
    }
    for node in &nodes {
        node::look(node, version, client, found).await;
    }
    set_backs(environment, &check, found);
    keys(environment, settings, &check, found);
    gaps(client, name, found).await
}

async fn nodes(client: &Client, environment: &str) -> Result<Vec<Node>, Error> {
    let (nodes, _) = crate::commands::pages(1000, async |page_size, page_token| {
        let request =
            ListNodesRequest { environment: environment.to_owned(), page_size, page_token };
        let answer = client.nodes().list_nodes(request).await?.into_inner();
        Ok((answer.nodes, answer.next_page_token))
    })
    .await?;
    Ok(nodes)
}

fn set_backs(environment: &EnvironmentStatus, check: &str, found: &mut Findings) {
    for SetBack { namespace, from, to, timestamp } in &environment.set_backs {
        let at = time(timestamp.as_ref());
        let detail =
            format!("the database went back from revision {from} of {namespace} to {to}, {at}");
        let mend =
            "look through what was changed last, as it is lost: keys revoked then are valid again";
        found.add(Level::Fail, check, detail, mend);
    }
}

fn keys(
    environment: &EnvironmentStatus,
    settings: Option<&Environment>,
    check: &str,
    found: &mut Findings,
) {
    if settings.and_then(|settings| settings.default_rate_limit) == Some(0) {
        let detail = "keys without a limit of their own or of a plan have none";
        let mend = "set one, if that is not meant: fgctl envs update --default-rate-limit";
        found.add(Level::Warn, check, detail, mend);
    }
    let count = environment.ending_key_count;
    if count == 0 {
        let detail = format!("{} keys, none of them ends within 7 days", environment.key_count);
        return found.ok(check, detail);
    }
    let mut ids = environment.ending_key_ids.join(", ");
    if count > environment.ending_key_ids.len() as u64 {
        ids += ", ...";
    }
    let noun = if count == 1 { "key ends" } else { "keys end" };
    let mend = "give them a later end with fgctl keys update --expires-at, or let them go";
    found.add(Level::Warn, check, format!("{count} {noun} within 7 days ({ids})"), mend);
}

async fn gaps(client: &Client, environment: &str, found: &mut Findings) -> Result<(), Error> {
    let check = format!("audit log of {environment}");
    let request = ListGapsRequest {
        environment: environment.to_owned(),
        page_size: 100,
        ..ListGapsRequest::default()
    };
    let gaps = match client.logs().list_gaps(request).await {
        Ok(answer) => answer.into_inner().gaps,
        Err(status) if status.code() == Code::PermissionDenied => {
            found.add(Level::Skipped, check, "this token may not read it", "");
            return Ok(());
        }
        Err(status) if status.code() == Code::Unavailable => {
            found.add(Level::Skipped, check, "can't be read while the database is away", "");
            return Ok(());
        }
        Err(status) => return Err(status.into()),
    };
    losses(&gaps, &check, found);
    Ok(())
}

/// What was lost of the audit log lately, and apart from that what the control plane would not have.
fn losses(gaps: &[LogGap], check: &str, found: &mut Findings) {
    let lately = || gaps.iter().filter(|gap| is_lately(gap));
    let refused: u64 = lately().filter(|gap| gap.reason == "refused").map(|gap| gap.events).sum();
    let lost = lately().map(|gap| gap.events).sum::<u64>() - refused;
    if refused > 0 {
        let detail = format!("the control plane refused {refused} events of the last day for good");
        let mend = "the log of the node says why: was it renamed, or is its disk damaged?";
        found.add(Level::Warn, check, detail, mend);
    }
    if lost > 0 {
        let mend = "fgctl logs gaps says where and why";
        found.add(Level::Warn, check, format!("{lost} events of the last day are lost"), mend);
    }
    if lost + refused == 0 {
        found.ok(check, "no event was lost in the last day");
    }
}

fn is_lately(gap: &LogGap) -> bool {
    let told = gap.timestamp.and_then(|at| SystemTime::try_from(at).ok());
    let age = told.and_then(|at| SystemTime::now().duration_since(at).ok());
    // Of a clock that is ahead: just now.
    told.is_some() && age.is_none_or(|age| age < LATELY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_were_refused_are_told_apart_from_those_that_are_lost() {
        let gap = |reason: &str, events, age: Duration| LogGap {
            timestamp: Some((SystemTime::now() - age).into()),
            reason: reason.into(),
            events,
            ..LogGap::default()
        };
        let soon = Duration::from_secs(60);
        for (gaps, told) in [
            (vec![], &["no event was lost"][..]),
            (vec![gap("refused", 3, LATELY * 2)], &["no event was lost"]),
            (vec![gap("refused", 3, soon), gap("refused", 4, soon)], &["refused 7 events"]),
            (vec![gap("killed", 2, soon)], &["2 events of the last day are lost"]),
            (
                vec![gap("damaged", 2, soon), gap("refused", 3, soon)],
                &["refused 3 events", "2 events of the last day are lost"],
            ),
        ] {
            let mut found = Findings::default();
            losses(&gaps, "audit log of default", &mut found);
            let details: Vec<_> = found.0.iter().map(|finding| &*finding.detail).collect();
            assert_eq!(details.len(), told.len(), "{details:?}");
            for (detail, part) in details.iter().zip(told) {
                assert!(detail.contains(part), "{detail}");
            }
        }
    }
}
