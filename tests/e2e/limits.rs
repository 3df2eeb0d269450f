//! Limits that all nodes share.

mod bad_limits;
mod clock_off;
mod forgotten;
mod overload;
mod quotas;
mod redis_trouble;
mod resets;
mod restarted_alone;
mod show;
mod unknown_keys;

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;

use crate::support::{Answer, Client, Gate, Upstream, eventually};

/// What may be admitted while nodes count without Redis, of what the limit allows. On a machine so
/// busy that nothing is answered for 50 ms, Redis is in trouble too.
const MOST_IN_TROUBLE: f64 = 1.2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_admit_sixty_a_minute_and_no_more() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).with_redis().start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (_, secret) = gate.key(json!({"source_path": "app", "rate_limit": 60})).await;
    gate.settle().await;
    counts_in_redis(&gate).await;

    let started = Instant::now();
    let clients: Vec<Client> = gate.nodes.iter().map(|node| node.with_key(&secret)).collect();
    let tasks = (0..100).map(|n| {
        let client = clients[n % 2].clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..6 {
                answers.push(client.get("/").await);
            }
            answers
        })
    });
    let mut answers: Vec<Answer> = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.extend(task.await.expect("answered"));
    }
    let seconds = started.elapsed().as_secs();
    let admitted = answers.iter().filter(|answer| answer.status == StatusCode::OK).count() as u64;
    println!("600 requests in {seconds} full seconds: {admitted} admitted");
    assert!((60..=60 + seconds).contains(&admitted), "{admitted}");
    assert_eq!(upstream.served(), admitted);
    while started.elapsed() < Duration::from_millis(3500) {
        for client in &clients {
            client.get("/").await;
        }
    }
    let (admitted, seconds) = (upstream.served(), started.elapsed().as_secs());
    println!("after {seconds} seconds: {admitted} admitted");
    assert!((60 + 2..=60 + seconds).contains(&admitted), "{admitted}");
    for answer in answers {
        assert!(answer.header("ratelimit-policy").contains("q=60"), "{answer:?}");
        if answer.status == StatusCode::OK {
            continue;
        }
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.header("ratelimit").contains("r=0"), "{answer:?}");
    }

    // An unknown key never reaches Redis.
    let keys = gate.redis.as_ref().expect("runs").keys();
    for _ in 0..20 {
        gate.nodes[0].with_key("fg_unknown").get("/").await;
    }
    assert_eq!(gate.redis.as_ref().expect("runs").keys(), keys);

    let (_, local) = gate.key(json!({"source_path": "local", "rate_limit": 60})).await;
    let closed = json!({
        "source_path": "closed", "rate_limit": 60, "rate_limit_fallback": "closed",
    });
    let (_, closed) = gate.key(closed).await;
    gate.settle().await;
    gate.redis.as_mut().expect("runs").kill();
    let mut admitted = 0;
    for _ in 0..100 {
        for node in &gate.nodes {
            let answer = node.with_key(&local).get("/").await;
            assert!(!answer.status.is_server_error(), "{answer:?}");
            admitted += u32::from(answer.status == StatusCode::OK);
        }
    }
    println!("without Redis: {admitted} of 200 admitted by local shares of 60, no 5xx");
    assert!((60..=75).contains(&admitted), "{admitted}");
    let answer = gate.nodes[0].with_key(&closed).get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "closed is closed");

    gate.redis.as_mut().expect("was killed").restart();
    counts_in_redis(&gate).await;
    let answer = clients[0].get("/").await;
    // Redis came back empty, and was told what had been admitted: a token came each second since.
    let remaining = answer.header("ratelimit").strip_prefix("\"key\";r=").expect("is told");
    let remaining: u32 = remaining.split(';').next().expect("a number").parse().expect("a number");
    assert!(remaining < 30, "{answer:?}");
}

/// The id of a key on a plan with this limit, and its secret. No rate is in the way.
async fn key_with_a_quota(gate: &Gate, limit: &str) -> (String, String) {
    gate.fgctl_json(&["plans", "create", "gold", "--rate-limit", "100000", "--limit", limit]);
    let key = gate.key(json!({"source_path": "app", "plan_id": "gold"})).await;
    gate.settle().await;
    key
}

async fn counts_in_redis(gate: &Gate) {
    for node in &gate.nodes {
        eventually("the node counts in Redis", async || {
            (node.metric("fastgate_limits_state{state=\"redis\"}").await == 1.0).then_some(())
        })
        .await;
    }
}
