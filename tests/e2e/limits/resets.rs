//! Limits that people make full again: a change of the key, which nothing undoes.

use serde_json::{Value, json};

use super::{counts_in_redis, key_with_a_quota};
use crate::support::{Client, Gate, Upstream, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_holds_on_nodes_of_another_control_plane_whatever_becomes_of_redis() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_redis().start().await;
    let replica = gate.start_replica().await;
    gate.add_node(&replica).await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (key_id, secret) = key_with_a_quota(&gate, "monthly=100/month").await;
    counts_in_redis(&gate).await;
    let clients: Vec<_> = gate.nodes.iter().map(|node| node.with_key(&secret)).collect();
    for client in &clients {
        use_up(client).await;
    }
    // So that a recall would find them.
    gate.logs(102).await;

    let told = reset(&gate, &key_id).await;
    assert_eq!(told["missing"], json!([]), "{told}");
    let monthly = told["limits"].as_array().expect("a list").iter();
    let monthly: Vec<_> = monthly.filter(|row| row["name"] == "monthly").collect();
    assert_eq!((monthly.len(), &monthly[0]["remaining"]), (1, &json!(100)), "{told}");
    assert_eq!(admitted(&clients[1]).await, 10, "the node of the other control plane has it");
    let outages = gate.redis_outages();
    gate.redis().disconnect();
    eventually("nodes find Redis away", async || (gate.redis_outages() > outages).then_some(()))
        .await;
    counts_in_redis(&gate).await;
    assert_eq!(admitted(&clients[1]).await, 10, "nobody tells of what was before");

    gate.redis().empty();
    eventually("Redis is told what was used since", async || {
        clients[1].get("/").await;
        let redis = gate.redis.as_ref().expect("runs");
        let keys = redis.keys();
        let bucket = keys.lines().find(|name| name.contains("}:since:"))?;
        (redis.get(bucket).split(' ').nth(2)? != "0").then_some(())
    })
    .await;
    assert_eq!(admitted(&clients[1]).await, 10, "which is nothing of what was before");

    use_up(&clients[1]).await;
    use_up(&clients[0]).await;
    gate.redis().kill();
    reset(&gate, &key_id).await;
    gate.redis().restart();
    counts_in_redis(&gate).await;
    assert_eq!(admitted(&clients[1]).await, 10, "though Redis was away");
}

/// Resets, and waits until all nodes have it; gives the answer.
async fn reset(gate: &Gate, key_id: &str) -> Value {
    let told = gate.fgctl_json(&["limits", "reset", key_id]);
    gate.settle().await;
    told
}

async fn use_up(client: &Client) {
    let mut requests = 0;
    while client.get("/").await.status == 200 {
        requests += 1;
        assert!(requests <= 300, "nothing is left of the limit");
    }
}

/// How many of ten requests are admitted.
async fn admitted(client: &Client) -> u32 {
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += u32::from(client.get("/").await.status == 200);
    }
    admitted
}
