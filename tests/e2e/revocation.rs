//! How soon a revoked key is refused.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Client, Gate, Upstream, percentile};

const REVOCATIONS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_key_is_refused_by_every_node_within_a_quarter_of_a_second() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).alone().start().await;
    let route = json!({"path_prefix": "/", "targets": [{"url": upstream.url}]});
    gate.route(route).await;
    let mut figures = Vec::with_capacity(REVOCATIONS);
    for _ in 0..REVOCATIONS {
        let (key_id, secret) =
            gate.key(json!({"source_path": "app", "rate_limit": 1_000_000})).await;
        gate.settle().await;
        let clients: Vec<_> = gate.nodes.iter().map(|node| node.with_key(&secret)).collect();
        for client in &clients {
            assert_eq!(client.get("/").await.status, StatusCode::OK);
        }
        let path = format!("/admin/keys/{key_id}/revoke");
        gate.admin.json(Method::POST, &path, json!({})).await;
        let committed = Instant::now();
        let [one, two] = clients.try_into().unwrap_or_else(|_| panic!("two nodes"));
        let both = tokio::join!(refused(one, committed), refused(two, committed));
        figures.push(both.0.max(both.1));
    }
    figures.sort();
    let (p50, p99) = (percentile(&figures, 0.5), percentile(&figures, 0.99));
    println!("revocation, commit to refusal on both nodes: p50 {p50:?}, p99 {p99:?}");
    assert!(p99 <= Duration::from_millis(250), "{p99:?}");
}

async fn refused(client: Client, since: Instant) -> Duration {
    loop {
        if client.get("/").await.status == StatusCode::UNAUTHORIZED {
            return since.elapsed();
        }
        assert!(since.elapsed() < Duration::from_secs(5), "still served");
    }
}
