//! A thousand changes of routes while requests run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Gate, Line, Upstream};

const CHANGES: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_route_changes_disturb_no_request() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let gate = Gate::with_nodes(1).start().await;
    let to = |path: &str, upstream: &Upstream| {
        json!({
            "path_prefix": path, "auth_required": false, "targets": [{"url": upstream.url}],
        })
    };
    gate.route(to("/a", &a)).await;
    gate.route(to("/b", &b)).await;
    let changing = gate.route(to("/changing", &a)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let node = &gate.nodes[0];
    let mut clients = Vec::new();
    for (path, names) in [("/a/x", "a"), ("/b/x", "b"), ("/a/y", "a"), ("/changing/x", "ab")] {
        let mut line = Line::open(&node.proxy_url).await;
        let stop = stop.clone();
        clients.push(tokio::spawn(async move {
            let mut sent = 0_u64;
            while !stop.load(SeqCst) {
                let answer = line.get(path).await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                let answer = answer.json();
                let by = answer["served_by"].as_str().expect("a name");
                assert!(names.contains(by), "{path} went to {by}");
                sent += 1;
            }
            sent
        }));
    }
    for n in 0..CHANGES {
        let target = if n % 2 == 0 { &b } else { &a };
        let change = json!({"targets": [{"url": target.url}], "timeout": 1 + n % 60});
        gate.admin.json(Method::PUT, &format!("/admin/routes/{changing}"), change).await;
    }
    gate.settle().await;
    stop.store(true, SeqCst);
    let mut sent = 0;
    for client in clients {
        sent += client.await.expect("every request went well, on one connection");
    }
    let deltas = node.metric("fastgate_config_deltas_total{namespace=\"config\"}").await;
    println!("{CHANGES} route changes in {deltas} deltas under {sent} requests, none failed");
    assert_eq!(node.metric("fastgate_connections_accepted_total").await, 4.0);
    assert_eq!(node.proxy.get("/changing/x").await.json()["served_by"], "a", "the last change");
    assert_eq!(node.metric("fastgate_config_nacks_total{namespace=\"config\"}").await, 0.0);
}
