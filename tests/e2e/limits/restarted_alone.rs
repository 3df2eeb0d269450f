//! Nodes that start while the control plane and Redis are away.

use http::StatusCode;
use serde_json::json;

use crate::support::{Gate, Upstream};

const NODES: usize = 3;

/// In requests a minute.
const LIMIT: u32 = 90;

#[tokio::test]
async fn nodes_that_start_with_nobody_to_ask_take_their_share_of_a_limit_and_no_more() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(NODES).with_redis().alone().start().await;
    let route = json!({"path_prefix": "/", "targets": [{"url": upstream.url}]});
    let route_id = gate.route(route).await;
    let (key_id, secret) = gate.key(json!({"source_path": "app", "rate_limit": LIMIT})).await;
    gate.settle().await;
    for node in &gate.nodes {
        node.has_on_disk("config", &route_id).await;
        node.has_on_disk("keys", &key_id).await;
    }

    gate.kill_control_plane();
    gate.redis().kill();
    let dir = gate.dir().to_owned();
    for node in &mut gate.nodes {
        node.kill();
        node.start(&dir);
        node.ready().await;
    }
    let mut admitted = 0;
    for _ in 0..LIMIT {
        for node in &gate.nodes {
            let answer = node.with_key(&secret).get("/").await;
            assert!(!answer.status.is_server_error(), "{answer:?}");
            admitted += u32::from(answer.status == StatusCode::OK);
        }
    }
    println!("{admitted} of {LIMIT} admitted by {NODES} nodes that started alone");
    assert!((LIMIT..=LIMIT + LIMIT / 4).contains(&admitted), "{admitted}");
}
