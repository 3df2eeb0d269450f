//! Targets that are dead, slow or in trouble.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Gate, Line, Upstream, eventually, free_port};

#[tokio::test]
async fn a_dead_target_costs_no_client_an_error() {
    let alive = Upstream::start("alive").await;
    let gate = Gate::with_nodes(1).start().await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let targets = json!([{"url": alive.url}, {"url": dead}]);
    gate.route(json!({"path_prefix": "/", "auth_required": false, "targets": targets})).await;
    let client = &gate.nodes[0].proxy;
    for n in 0..200 {
        // Nothing was sent to a target that can't be reached: even a POST may go to another.
        let method = if n % 2 == 0 { Method::GET } else { Method::POST };
        let answer = client.send(method, "/", "body").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(alive.served(), 200);
    let retries = gate.nodes[0].metric("fastgate_retries_total").await;
    println!("200 requests, none failed, {retries} attempts repeated");
    assert!(retries > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_under_load_costs_no_get_an_error() {
    let (alive, dying) = (Upstream::start("alive").await, Upstream::start("dying").await);
    let gate = Gate::with_nodes(1).start().await;
    let targets = json!([{"url": alive.url}, {"url": dying.url}]);
    gate.route(json!({"path_prefix": "/", "auth_required": false, "targets": targets})).await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let mut line = Line::open(&gate.nodes[0].proxy_url).await;
        clients.spawn(async move {
            for _ in 0..1000 {
                let answer = line.get("/slow/1").await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
        });
    }
    eventually("it is under load", async || (dying.served() > 200).then_some(())).await;
    drop(dying);
    while let Some(client) = clients.join_next().await {
        client.expect("every request went well");
    }
    let of = async |name: &str| gate.nodes[0].metric(&format!("fastgate_{name}_total")).await;
    let (retries, failures) = (of("retries").await, of("upstream_failures").await);
    println!(
        "4,000 requests, none failed: {failures} attempts without an answer, {retries} retries"
    );
    assert!(failures > 0.0);
}

#[tokio::test]
async fn a_slow_target_ends_as_504_at_its_deadline() {
    let slow = Upstream::start("slow").await;
    let gate = Gate::with_nodes(1).alone().start().await;
    let open = |path: &str, timeout: f64, target_timeout: f64| {
        json!({
            "path_prefix": path, "strip_prefix": true, "auth_required": false, "timeout": timeout,
            "targets": [{"url": slow.url, "timeout": target_timeout}], "retry_count": 0,
        })
    };
    gate.route(open("/route", 0.5, 30.0)).await;
    gate.route(open("/target", 30.0, 0.5)).await;
    for prefix in ["/route", "/target"] {
        let started = Instant::now();
        let answer = gate.nodes[0].proxy.get(&format!("{prefix}/slow/5000")).await;
        let took = started.elapsed();
        println!("{prefix}: {} after {took:?}, asked for 500 ms", answer.status);
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!((Duration::from_millis(490)..Duration::from_millis(1500)).contains(&took));
    }
    let answer = gate.nodes[0].proxy.get("/route/slow/100").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_failing_answer_is_repeated_only_where_that_is_safe() {
    let upstream = Upstream::start("failing").await;
    let gate = Gate::with_nodes(1).start().await;
    let targets = json!([{"url": upstream.url}]);
    let route = json!({
        "path_prefix": "/", "auth_required": false, "targets": targets, "retry_count": 2,
    });
    gate.route(route).await;
    let client = &gate.nodes[0].proxy;
    for (method, attempts) in [(Method::GET, 3), (Method::DELETE, 3), (Method::POST, 1)] {
        let before = upstream.served();
        let answer = client.send(method.clone(), "/status/503", "").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(upstream.served() - before, attempts, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_everyone_is_told_so_within_a_second_or_two() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let (key_id, secret) = gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;
    gate.wire.cut();
    // Longer than any memory of tokens.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for n in 0..20 {
        let admin = gate.admin.clone();
        let path = format!("/admin/keys/{key_id}");
        let method = if n % 2 == 0 { Method::GET } else { Method::DELETE };
        callers.spawn(async move { admin.send(method, &path, "").await });
    }
    while let Some(answer) = callers.join_next().await {
        let answer = answer.expect("answered");
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains("DATABASE_UNAVAILABLE"),
            "{answer:?}"
        );
    }
    println!("20 calls without Postgres were all answered 503 after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(4), "one must not wait for the others");
    assert_eq!(gate.nodes[0].with_key(&secret).get("/").await.status, StatusCode::OK);
    gate.wire.mend();
    eventually("the database is back", async || {
        let answer = gate.admin.send(Method::GET, &format!("/admin/keys/{key_id}"), "").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}
