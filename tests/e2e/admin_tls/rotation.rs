//! A certificate is renewed by another program while the port is in use.

use std::time::Duration;

use super::ControlPlane;
use crate::support::{Process, eventually, run};

/// The certificate the port shows.
fn shown(plane: &ControlPlane) -> String {
    let (is_made, text) = plane.handshake(&["-showcerts"]);
    assert!(is_made, "{text}");
    let from = text.find("-----BEGIN").expect("a certificate");
    let to = text.find("-----END").expect("its end");
    text[from..to].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_serves_the_next_connection_and_breaks_none() {
    let plane = ControlPlane::start("2").await;
    let tail = plane.trusting_fgctl(&["logs", "tail", "--follow"]);
    let mut tail = Process::start("tail", tail, plane.dir.path());
    let mut calls = 0;
    for round in 1..=2 {
        let before = shown(&plane);
        plane.authority.renew("2");
        eventually("the new one is shown", async || {
            let out = run(&mut plane.trusting_fgctl(&["keys", "list"]));
            assert!(out.status.success(), "round {round}: {out:?}");
            calls += 1;
            (shown(&plane) != before).then_some(())
        })
        .await;
    }
    println!("{calls} calls while the certificate was renewed twice, none failed");
    assert!(!tail.has_ended(), "a stream goes on: {}", tail.log());

    // What is bad changes nothing, and is told once.
    let now = shown(&plane);
    std::fs::write(plane.authority.key(), "no key").expect("writes");
    eventually("the log says so", async || {
        plane.process.log().contains("--admin-tls-key").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let log = plane.process.log();
    assert_eq!(log.matches("--admin-tls-key").count(), 1, "{log}");
    assert_eq!(shown(&plane), now);
    assert_eq!(plane.metric("fastgate_tls_handshake_failures_total{port=\"admin\"}"), 0.0);
}
