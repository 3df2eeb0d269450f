//! Postgres restarts, hangs, is away for a while, and is replaced by its standby.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Client, Gate, Upstream, eventually, is_long};

/// A write that finds no database may take so long to say so: a second and a quarter, on a busy machine.
const PROMPT: Duration = Duration::from_millis(1900);

/// A gateway that serves a key on one node, and who sends it.
async fn set_up(gate: &Gate, upstream: &Upstream) -> Client {
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    let key = json!({"source_path": "app", "rate_limit": 1_000_000});
    let (_, secret) = gate.key(key).await;
    gate.settle().await;
    gate.nodes[0].with_key(&secret)
}

/// While the database is away: writes say so at once, what needs no database goes on.
async fn is_away(gate: &Gate, client: &Client) {
    let started = Instant::now();
    let body = json!({"source_path": "app"}).to_string();
    let answer = gate.admin.send(Method::POST, "/admin/keys", body).await;
    let took = started.elapsed();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(String::from_utf8_lossy(&answer.body).contains("DATABASE_UNAVAILABLE"), "{answer:?}");
    assert!(took < PROMPT, "{took:?}");

    let nodes = gate.admin.json(Method::GET, "/admin/nodes?environment=default", json!({})).await;
    assert_eq!(nodes["nodes"][0]["connected"], true);
    let held = gate.admin.json(Method::GET, "/admin/nodes/node-1/config", json!({})).await;
    assert_eq!(held["config"]["compared"], "match");
    let said = gate.admin.json(Method::POST, "/admin/explain", json!({"target": "/"})).await;
    assert_eq!(said["error"], "key_missing");
    let status = gate.admin.json(Method::GET, "/admin/status", json!({})).await;
    assert_eq!((&status["ready"], &status["database_ms"]), (&json!(false), &Value::Null));
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}

/// Once it is back: writes work, and reach the nodes.
async fn is_back(gate: &Gate, client: &Client) -> Duration {
    let started = Instant::now();
    let secret = eventually("writes work again", async || {
        let body = json!({"source_path": "later"}).to_string();
        let answer = gate.admin.send(Method::POST, "/admin/keys", body).await;
        let is_made = answer.status == StatusCode::CREATED;
        is_made.then(|| answer.json()["key_value"].as_str().expect("a secret").to_owned())
    })
    .await;
    let later = gate.nodes[0].with_key(&secret);
    eventually("the node knows the new key", async || {
        (later.get("/").await.status == StatusCode::OK).then_some(())
    })
    .await;
    eventually("it is ready", async || {
        let answer = gate.admin.send(Method::GET, "/ready", "").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    started.elapsed()
}

async fn snapshots(gate: &Gate) -> f64 {
    let of = async |ns: &str| {
        let series = format!("fastgate_config_snapshots_total{{namespace=\"{ns}\"}}");
        gate.nodes[0].metric(&series).await
    };
    of("keys").await + of("config").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_a_minute_away_are_gone_through() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_own_postgres().start().await;
    let client = set_up(&gate, &upstream).await;
    let before = snapshots(&gate).await;
    for away in [Duration::ZERO, Duration::from_secs(if is_long() { 60 } else { 8 })] {
        gate.postgres().kill();
        let until = Instant::now() + away;
        is_away(&gate, &client).await;
        while Instant::now() < until {
            assert_eq!(client.get("/").await.status, StatusCode::OK);
            sleep(Duration::from_millis(20)).await;
        }
        is_away(&gate, &client).await;
        gate.postgres().restart();
        let took = is_back(&gate, &client).await;
        println!("away for {away:?} and more: all is well {took:?} after Postgres is back");
    }
    assert_eq!(snapshots(&gate).await, before, "deltas are enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_missed_and_not_waited_for() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_own_postgres().start().await;
    let client = set_up(&gate, &upstream).await;
    gate.postgres().signal("STOP");
    // Those under way when it froze may wait longer.
    sleep(Duration::from_secs(3)).await;
    is_away(&gate, &client).await;
    is_away(&gate, &client).await;
    gate.postgres().signal("CONT");
    let took = is_back(&gate, &client).await;
    println!("frozen for some seconds: all is well {took:?} after it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_under_way_when_the_database_freezes_are_told_soon() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_own_postgres().start().await;
    let client = set_up(&gate, &upstream).await;
    let (key_id, _) = gate.key(json!({"source_path": "read"})).await;
    let until = Instant::now() + Duration::from_secs(10);
    let callers = (0..24).map(|n| {
        let (admin, path) = (gate.admin.clone(), format!("/admin/keys/{key_id}"));
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            while Instant::now() < until {
                let began = Instant::now();
                let body = json!({"source_path": "app"}).to_string();
                let answer = match n % 2 {
                    0 => admin.send(Method::GET, &path, "").await,
                    _ => admin.send(Method::POST, "/admin/keys", body).await,
                };
                slowest = slowest.max(began.elapsed());
                let may_be =
                    answer.status.is_success() || answer.status == StatusCode::SERVICE_UNAVAILABLE;
                assert!(may_be, "{answer:?}");
            }
            slowest
        })
    });
    let callers: Vec<_> = callers.collect();
    sleep(Duration::from_millis(500)).await;
    gate.postgres().signal("STOP");
    let mut slowest = Duration::ZERO;
    for caller in callers {
        slowest = slowest.max(caller.await.expect("is told"));
    }
    gate.postgres().signal("CONT");
    println!("the slowest call of those that met with a frozen database took {slowest:?}");
    assert!(slowest < Duration::from_secs(7), "{slowest:?}");
    is_back(&gate, &client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_is_found() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_standby().start().await;
    let client = set_up(&gate, &upstream).await;
    let before = snapshots(&gate).await;
    gate.standby_catches_up();
    gate.postgres().kill();
    is_away(&gate, &client).await;
    gate.standby().promote();
    let took = is_back(&gate, &client).await;
    println!("a promoted standby is in use after {took:?}");
    assert_eq!(snapshots(&gate).await, before, "it has everything: deltas are enough");
    let text = String::from_utf8(gate.admin.get("/metrics").await.body.to_vec()).expect("text");
    assert!(text.contains("fastgate_feed_set_backs_total 0"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_lacks_is_said_aloud() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(1).with_standby().start().await;
    let client = set_up(&gate, &upstream).await;
    let (key_id, lost) = gate.key(json!({"source_path": "revoked"})).await;
    gate.settle().await;
    gate.standby_catches_up();
    gate.standby().kill();
    gate.admin.send(Method::POST, &format!("/admin/keys/{key_id}/revoke"), "{}").await;
    gate.settle().await;
    let lost = gate.nodes[0].with_key(&lost);
    assert_eq!(lost.get("/").await.status, StatusCode::UNAUTHORIZED);

    gate.postgres().kill();
    gate.standby().restart();
    is_away(&gate, &client).await;
    assert_eq!(lost.get("/").await.status, StatusCode::UNAUTHORIZED, "a standby changes nothing");
    gate.standby().promote();
    // Nodes follow the database, which knows of no revocation; everybody is told.
    let loss = eventually("the loss is noticed", async || {
        let status = gate.admin.json(Method::GET, "/admin/status", json!({})).await;
        Some(status["environments"][0]["set_backs"][0].clone()).filter(|loss| !loss.is_null())
    })
    .await;
    is_back(&gate, &client).await;
    let from = loss["from"].as_u64().expect("a revision");
    assert_eq!((&loss["namespace"], loss["to"].as_u64()), (&json!("keys"), Some(from - 1)));
    let told = gate.fgctl(&["doctor"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.contains("the database went back from revision"), "{told}");
    let log = gate.nodes[0].process().log();
    assert!(log.contains("went back to an earlier revision"), "{log}");
    let nodes = gate.admin.json(Method::GET, "/admin/nodes", json!({})).await;
    assert_eq!(nodes["nodes"][0]["digests"], "match");
}
