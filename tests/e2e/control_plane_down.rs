//! What nodes do while the control plane is away, and when it is back.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Gate, Node, Upstream};

#[tokio::test]
async fn nodes_go_on_and_resume_with_a_delta() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).alone().start().await;
    let route = json!({"path_prefix": "/", "targets": [{"url": upstream.url}]});
    let route_id = gate.route(route).await;
    let (key_id, secret) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    let serves = async |gate: &Gate, node: usize| {
        let answer = gate.nodes[node].with_key(&secret).get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    gate.nodes[1].has_on_disk("config", &route_id).await;
    gate.nodes[1].has_on_disk("keys", &key_id).await;

    gate.kill_control_plane();
    for _ in 0..50 {
        serves(&gate, 0).await;
        serves(&gate, 1).await;
    }

    gate.nodes[1].kill();
    let dir = gate.dir().to_owned();
    let started = Instant::now();
    gate.nodes[1].start(&dir);
    gate.nodes[1].ready().await;
    serves(&gate, 1).await;
    let took = started.elapsed();
    println!("a node restarted without a control plane serves after {took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");

    let before = [applied(&gate.nodes[0]).await, applied(&gate.nodes[1]).await];
    gate.start_control_plane().await;
    let (key_id, later) = gate.key(json!({"source_path": "later"})).await;
    gate.settle().await;
    for (node, (snapshots, deltas)) in before.into_iter().enumerate() {
        let now = applied(&gate.nodes[node]).await;
        println!("node {node}: snapshots {snapshots} -> {}, deltas {deltas} -> {}", now.0, now.1);
        assert_eq!(now.0, snapshots, "no snapshot for node {node}");
        assert_eq!(now.1, deltas + 1.0, "one delta for node {node}");
        let answer = gate.nodes[node].with_key(&later).get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "{key_id}: {answer:?}");
    }
}

#[tokio::test]
async fn a_node_that_was_away_catches_up_with_deltas() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).start().await;
    let route = json!({"path_prefix": "/", "targets": [{"url": upstream.url}]});
    let route_id = gate.route(route).await;
    let (key_id, revoked) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    gate.nodes[1].has_on_disk("config", &route_id).await;
    gate.nodes[1].has_on_disk("keys", &key_id).await;

    gate.nodes[1].kill();
    let (_, missed) = gate.key(json!({"source_path": "later"})).await;
    gate.admin.json(Method::POST, &format!("/admin/keys/{key_id}/revoke"), json!({})).await;
    let change = json!({"required_permissions": [], "timeout": 7});
    gate.admin.json(Method::PUT, &format!("/admin/routes/{route_id}"), change).await;

    let dir = gate.dir().to_owned();
    gate.nodes[1].start(&dir);
    gate.nodes[1].ready().await;
    gate.settle().await;
    for node in &gate.nodes {
        assert_eq!(node.with_key(&missed).get("/").await.status, StatusCode::OK);
        assert_eq!(node.with_key(&revoked).get("/").await.status, StatusCode::UNAUTHORIZED);
    }
    let (snapshots, deltas) = applied(&gate.nodes[1]).await;
    println!("a node back after three changes took {snapshots} snapshots and {deltas} deltas");
    assert_eq!(snapshots, 0.0);
    assert!(deltas >= 2.0, "one or more in each namespace");
}

/// Snapshots and deltas a node has taken into use since it started.
async fn applied(node: &Node) -> (f64, f64) {
    let of = async |name: &str| {
        let series = |ns| format!("fastgate_config_{name}_total{{namespace=\"{ns}\"}}");
        node.metric(&series("keys")).await + node.metric(&series("config")).await
    };
    (of("snapshots").await, of("deltas").await)
}
