//! Weighted targets.

use serde_json::json;

use crate::support::{Gate, Upstream};

const REQUESTS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_hold_within_two_points() {
    let (heavy, light) = (Upstream::start("heavy").await, Upstream::start("light").await);
    let gate = Gate::with_nodes(1).start().await;
    let targets = json!([
        {"url": heavy.url, "weight": 70}, {"url": light.url, "weight": 30},
    ]);
    let route = json!({"path_prefix": "/", "auth_required": false, "targets": targets});
    gate.route(route).await;
    let clients = (0..8).map(|_| {
        let client = gate.nodes[0].proxy.clone();
        tokio::spawn(async move {
            for _ in 0..REQUESTS / 8 {
                assert!(client.get("/").await.status.is_success());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("every request went well");
    }
    let share = heavy.served() as f64 * 100.0 / REQUESTS as f64;
    println!("weight 70 of 100 got {share:.2}% of {REQUESTS} requests");
    assert_eq!(heavy.served() + light.served(), REQUESTS);
    assert!((68.0..=72.0).contains(&share), "{share}");
}
