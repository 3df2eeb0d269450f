//! A node whose wall clock is wrong.

use std::time::Duration;

use http::StatusCode;
use jiff::{Timestamp, fmt::rfc2822};
use serde_json::json;

use super::MOST_IN_TROUBLE;
use crate::support::{Gate, Load, Node, Upstream};

const LIMIT: u32 = 120;

/// In hours.
const CLOCKS: [i32; 3] = [0, 1, -1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_an_hour_off_admit_the_limit_together_and_no_more() {
    let upstream = Upstream::terse().await;
    let gate = Gate::with_nodes(3).with_redis().with_clocks_off(&CLOCKS).alone().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    for (node, hours) in gate.nodes.iter().zip(CLOCKS) {
        let off = clock_of(node).await.duration_since(Timestamp::now());
        assert!((off.as_secs_f64() - f64::from(hours) * 3600.0).abs() < 60.0, "{off}");
    }
    let (_, secret) = gate.key(json!({"source_path": "app", "rate_limit": LIMIT})).await;
    gate.settle().await;

    let load = Load::with_key(&gate.nodes, &secret).per_second(150.0);
    let answers = load.run_for(Duration::from_secs(5)).await;
    let allowed = f64::from(LIMIT)
        + f64::from(LIMIT) / 60.0 * (answers.ended() - answers.begun()).as_secs_f64();
    let admitted = answers.admitted() as f64;
    let outages = gate.redis_outages();
    println!("{} asked, {admitted} of {allowed:.1} admitted; {outages} outages", answers.asked());
    let most = if outages == 0 { 1.0 } else { MOST_IN_TROUBLE };
    assert!(admitted >= allowed - 3.0, "{admitted} of {allowed:.1}");
    assert!(admitted <= allowed * most + 1.0, "{admitted} of {allowed:.1}");

    // None is stuck: two tokens a second for whoever asks, and none is free.
    for node in &gate.nodes {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let client = node.with_key(&secret);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(client.get("/").await.status);
        }
        assert_eq!(statuses[..2], [StatusCode::OK; 2]);
        assert_eq!(statuses[3], StatusCode::TOO_MANY_REQUESTS);
    }
}

/// As the node writes it.
async fn clock_of(node: &Node) -> Timestamp {
    let answer = node.proxy.get("/").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    rfc2822::parse(answer.header("date")).expect("a date").timestamp()
}
