//! What can be wrong with a node.

use fastgate::admin::v1::{GetNodeConfigRequest, Node};

use super::{Findings, Level};
use crate::{client::Client, output::time};

/// Per cent of its limit at which a spool is told of.
const SPOOL_HIGH: u128 = 70;
/// Below this many bytes a spool may count as full when half of it is used.
const SMALL_SPOOL: u64 = 16 << 20;

/// Looks at a node, and asks it about its keys. One line if all is well, else one for each fault.
pub(super) async fn look(node: &Node, version: &str, client: &Client, found: &mut Findings) {
    let check = format!("node {}", node.node_id);
    if !node.connected {
        let seen = time(node.last_seen_at.as_ref());
        let mend = "if it was not stopped, its log says why; it serves on with what it has";
        found.add(Level::Warn, check, format!("is away, last seen {seen}"), mend);
        return;
    }
    let mut faults = faults(node, version);
    let request = GetNodeConfigRequest {
        node_id: node.node_id.clone(),
        environment: node.environment.clone(),
        with_config: false,
    };
    // One that is connected elsewhere can't be asked here.
    if let Ok(held) = client.nodes().get_node_config(request).await {
        let denied = held.into_inner().quarantined_count;
        if denied > 0 {
            let mend = "its log says what is wrong with which: write them anew";
            faults.push((
                Level::Fail,
                format!("denies {denied} keys, whose records are bad"),
                mend,
            ));
        }
    }
    if faults.is_empty() {
        let Node { keys_revision, config_revision, .. } = node;
        let detail = format!("has keys {keys_revision} and config {config_revision}");
        return found.ok(check, detail);
    }
    for (level, detail, mend) in faults {
        found.add(level, check.as_str(), detail, mend);
    }
}

type Fault = (Level, String, &'static str);

/// What the list of nodes shows to be wrong.
fn faults(node: &Node, version: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |level, detail: String, mend| faults.push((level, detail, mend));
    if !node.last_nack.is_empty() {
        let mend = "mend the config, or bring the node up to date; it serves what it had before";
        add(Level::Fail, format!("refused {}", node.last_nack), mend);
    } else if node.keys_lag + node.config_lag > 0 {
        let (keys, config) = (node.keys_lag, node.config_lag);
        let detail = format!("is {keys} revisions of keys and {config} of config behind");
        add(Level::Fail, detail, "is it overloaded, or its connection slow? its log says more");
    }
    if node.digests == "differ" {
        let mend = "it is sent everything anew; if that lasts, restart it";
        add(Level::Fail, "holds something else than the control plane".into(), mend);
    }
    if node.version != version {
        let detail = format!("is of version {}, the control plane of {version}", node.version);
        add(Level::Warn, detail, "bring both to one version, nodes first");
    }
    if node.limits_state == "fallback" {
        let mend = "is Redis running, and can the node reach it? its log says more";
        add(Level::Fail, "counts limits without Redis, each by its fallback".into(), mend);
    }
    if let Some((level, detail, mend)) = spool(node) {
        add(level, detail, mend);
    }
    if node.events_dropped > 0 {
        let detail = format!("lost {} audit events since it started", node.events_dropped);
        add(Level::Warn, detail, "fgctl logs gaps says why");
    }
    faults
}

fn spool(node: &Node) -> Option<(Level, String, &'static str)> {
    let fill = (u128::from(node.spool_bytes) * 100).checked_div(node.spool_limit.into())?;
    let is_high = fill >= SPOOL_HIGH;
    let keep_up = "do the control plane and all sinks keep up? else raise --spool-limit";
    match (node.spool_full, is_high) {
        (true, true) => {
            Some((Level::Fail, format!("its audit spool takes no events, {fill} % full"), keep_up))
        }
        // Half of it is for requests under way.
        (true, false) if node.spool_limit < SMALL_SPOOL && fill >= 45 => {
            Some((Level::Fail, format!("its audit spool takes no events, {fill} % full"), keep_up))
        }
        // It is not its limit that it ran into.
        (true, false) => {
            let detail = "its audit spool takes no events: the disk is full or fails".into();
            let mend = "make room on the disk of its --state-dir; its log says what fails";
            Some((Level::Fail, detail, mend))
        }
        (false, true) => Some((Level::Warn, format!("its audit spool is {fill} % full"), keep_up)),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Node {
        Node {
            node_id: "n1".into(),
            connected: true,
            version: "1.0.0".into(),
            limits_state: "redis".into(),
            digests: "match".into(),
            spool_limit: 100 << 20,
            spool_bytes: 69 << 20,
            ..Node::default()
        }
    }

    #[test]
    fn each_fault_of_a_node_is_told_with_its_weight() {
        type Spoil = fn(&mut Node);
        let cases: [(Spoil, Level, &str); 12] = [
            (|n| n.last_nack = "revision 3: bad".into(), Level::Fail, "refused revision 3: bad"),
            (|n| n.keys_lag = 2, Level::Fail, "is 2 revisions of keys and 0 of config behind"),
            (|n| n.digests = "differ".into(), Level::Fail, "holds something else"),
            (|n| n.version = "0.9.0".into(), Level::Warn, "is of version 0.9.0"),
            (|n| n.limits_state = "fallback".into(), Level::Fail, "without Redis"),
            (|n| n.spool_bytes = 70 << 20, Level::Warn, "70 % full"),
            (|n| n.spool_full = true, Level::Fail, "the disk is full or fails"),
            (|n| (n.spool_full, n.spool_bytes) = (true, 99 << 20), Level::Fail, "99 % full"),
            (
                |n| (n.spool_full, n.spool_bytes, n.spool_limit) = (true, 50, 100),
                Level::Fail,
                "50 % full",
            ),
            (|n| n.events_dropped = 5, Level::Warn, "lost 5 audit events"),
            // What is no fault is told by its absence.
            (|n| n.spool_limit = 0, Level::Ok, ""),
            (|n| n.digests.clear(), Level::Ok, ""),
        ];
        for (spoil, level, text) in cases {
            let mut node = sound();
            spoil(&mut node);
            let found = faults(&node, "1.0.0");
            match level {
                Level::Ok => assert!(found.is_empty()),
                _ => {
                    let (worst, detail, mend) = &found[0];
                    assert_eq!((*worst, found.len()), (level, 1), "{detail}");
                    assert!(detail.contains(text) && !mend.is_empty(), "{detail}");
                }
            }
        }
    }
}
