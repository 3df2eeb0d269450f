//! What nodes do while the control plane is away, and when it is back.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;

use crate::support::{Gate, Upstream, eventually};

#[tokio::test]
async fn nodes_go_on_and_resume_with_a_delta() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (_, secret) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    let serves = async |gate: &Gate, node: usize| {
        let answer = gate.nodes[node].with_key(&secret).get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    // The state reaches the disk a moment after it is in force.
    let keys = gate.nodes[1].state_dir.clone();
    eventually("the state is on disk", async || {
        let files = std::fs::read_dir(&keys).ok()?.flatten().map(|file| file.file_name());
        let names: Vec<_> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        names.iter().any(|name| name.starts_with("keys")).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;

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

    let counts = async |gate: &Gate, node: usize| {
        let of = async |name: &str| {
            let series = |ns| format!("fastgate_config_{name}_total{{namespace=\"{ns}\"}}");
            let node = &gate.nodes[node];
            node.metric(&series("keys")).await + node.metric(&series("config")).await
        };
        (of("snapshots").await, of("deltas").await)
    };
    let before = [counts(&gate, 0).await, counts(&gate, 1).await];
    gate.start_control_plane().await;
    let (key_id, later) = gate.key(json!({"source_path": "later"})).await;
    gate.settle().await;
    for (node, (snapshots, deltas)) in before.into_iter().enumerate() {
        let now = counts(&gate, node).await;
        println!("node {node}: snapshots {snapshots} -> {}, deltas {deltas} -> {}", now.0, now.1);
        assert_eq!(now.0, snapshots, "no snapshot for node {node}");
        assert_eq!(now.1, deltas + 1.0, "one delta for node {node}");
        let answer = gate.nodes[node].with_key(&later).get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "{key_id}: {answer:?}");
    }
}
