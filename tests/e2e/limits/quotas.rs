//! Quotas through restarts of nodes and of Redis: no token is lost, and none counted twice.

use serde_json::json;

use super::{counts_in_redis, key_with_a_quota};
use crate::support::{Gate, Upstream, eventually};

const QUOTA: i64 = 1000;

#[tokio::test]
async fn nodes_that_are_restarted_lose_nothing_of_a_quota() {
    let upstream = Upstream::start("up").await;
    let (mut gate, key_id, secret) = gate_with_a_quota(&upstream).await;
    counts_in_redis(&gate).await;
    for round in 1..=3 {
        spend(&gate, &secret, 30).await;
        restart(&mut gate).await;
        let left = eventually("redis tells", async || remaining(&gate, &key_id)).await;
        assert_eq!(left, QUOTA - 60 * round, "after {round}");
    }
}

#[tokio::test]
async fn what_nodes_spent_without_redis_is_counted_once() {
    let upstream = Upstream::start("up").await;
    let (mut gate, key_id, secret) = gate_with_a_quota(&upstream).await;
    counts_in_redis(&gate).await;
    gate.redis().kill();
    spend(&gate, &secret, 100).await;
    gate.logs(200).await;
    gate.redis().restart();
    counts_in_redis(&gate).await;
    // The second node tells of its hundred when the audit log has told of all.
    spend_at(&gate, 0, &secret, 1).await;
    eventually("redis knows what was used", async || {
        (remaining(&gate, &key_id)? <= QUOTA - 201).then_some(())
    })
    .await;
    spend_at(&gate, 1, &secret, 9).await;
    restart(&mut gate).await;
    let remaining = eventually("redis tells", async || remaining(&gate, &key_id)).await;
    // The event of the first request may have been on its way when the audit log told.
    assert!((QUOTA - 210..=QUOTA - 209).contains(&remaining), "{remaining}");
}

/// Has all nodes end, which give back what they hold, and start again.
async fn restart(gate: &mut Gate) {
    let dir = gate.dir().to_owned();
    for node in &mut gate.nodes {
        node.process().signal("TERM");
        node.has_ended().await;
        node.start(&dir);
        node.ready().await;
    }
    counts_in_redis(gate).await;
}

async fn gate_with_a_quota(upstream: &Upstream) -> (Gate, String, String) {
    let gate = Gate::with_nodes(2).with_redis().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (key_id, secret) = key_with_a_quota(&gate, &format!("daily={QUOTA}/day")).await;
    (gate, key_id, secret)
}

/// So many requests to each node.
async fn spend(gate: &Gate, secret: &str, requests: usize) {
    for node in 0..gate.nodes.len() {
        spend_at(gate, node, secret, requests).await;
    }
}

async fn spend_at(gate: &Gate, node: usize, secret: &str, requests: usize) {
    let client = gate.nodes[node].with_key(secret);
    for _ in 0..requests {
        assert_eq!(client.get("/").await.status, 200);
    }
}

/// As Redis says; `None`: on a busy machine it may seem away.
fn remaining(gate: &Gate, key_id: &str) -> Option<i64> {
    let shown = gate.fgctl_json(&["limits", "show", key_id]);
    let row = shown["limits"].as_array()?.iter().find(|row| row["name"] == "daily")?;
    (row["counted_by"] == "redis").then(|| row["remaining"].as_i64())?
}
