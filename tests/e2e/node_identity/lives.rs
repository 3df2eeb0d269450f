//! Certificates that end soon: they are renewed while requests go on, and one that has ended stops none.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{is_connected, open_route, serves, x509};
use crate::support::{Gate, Load, Upstream, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_load_and_nothing_is_lost() {
    let upstream = Upstream::terse().await;
    let mut gate = Gate::with_nodes(2).with_certificates("12s").start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (_, secret) = gate.key(json!({"source_path": "app", "rate_limit": 1_000_000})).await;
    gate.settle().await;
    let first = x509(&gate.nodes[0], &["-serial"]);
    let load = Load::with_key(&gate.nodes, &secret).per_second(100.0).start();
    // More than two lives.
    for n in 0..26 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if n % 5 == 0 {
            gate.key(json!({"source_path": "more"})).await;
            gate.settle().await;
        }
        for node in &gate.nodes {
            let left = node.metric("fastgate_certificate_seconds_left").await;
            assert!(left > 0.0, "{left} s left after {n} s");
        }
    }
    let answers = load.stop().await;
    let failed = answers.count(|status| status != 200);
    println!("{} requests over two lives of the certificates, {failed} failed", answers.asked());
    assert_eq!(failed, 0);
    assert_ne!(x509(&gate.nodes[0], &["-serial"]), first);
    assert!(gate.metric("fastgate_node_renewals_total").await >= 4.0);
    let asked = usize::try_from(answers.asked()).expect("few");
    eventually("all events are stored", async || {
        let mut stored = 0.0;
        for node in &gate.nodes {
            stored += node.metric("fastgate_audit_events_stored_total").await;
        }
        (stored as usize == asked).then_some(())
    })
    .await;
    assert_eq!(gate.all_logs_by(1000).await.len(), asked, "each once");
    for node in &mut gate.nodes {
        let log = node.process().log();
        assert!(log.contains("renewed its certificate"), "{log}");
        assert!(!log.contains("lost the control plane"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_certificate_stops_no_request_and_a_new_token_mends_it() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_certificates("10s").start().await;
    open_route(&gate, "/a", &upstream).await;
    gate.nodes[0].has_on_disk("config", "/a").await;
    gate.kill_control_plane();
    eventually("it is close to its end", async || {
        serves(&gate.nodes[0], "/a").await;
        (gate.nodes[0].metric("fastgate_certificate_seconds_left").await <= 2.0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(gate.nodes[0].metric("fastgate_certificate_seconds_left").await < 0.0);
    serves(&gate.nodes[0], "/a").await;
    eventually("it says so", async || {
        gate.nodes[0].process().log().contains("has ended: it serves on").then_some(())
    })
    .await;

    // Nor is it let in, nor does a restart change any of that.
    gate.start_control_plane().await;
    gate.nodes[0].kill();
    let dir = gate.dir().to_owned();
    gate.nodes[0].start(&dir);
    gate.nodes[0].ready().await;
    serves(&gate.nodes[0], "/a").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!is_connected(&gate.nodes[0]).await);

    let token = gate.join_token(&[]);
    std::fs::write(&gate.nodes[0].token_file, token).expect("writes");
    // It may try for the last time just before, and waits up to ten seconds until the next.
    tokio::time::sleep(Duration::from_secs(5)).await;
    eventually("it is back", async || is_connected(&gate.nodes[0]).await.then_some(())).await;
    open_route(&gate, "/b", &upstream).await;
    assert_eq!(gate.nodes[0].proxy.get("/b").await.status, StatusCode::OK);
}
