//! Every request is one event, and no secret is anywhere.

use std::collections::HashSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Gate, Upstream, eventually};

#[tokio::test]
async fn every_request_is_one_event_and_the_secret_is_nowhere() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).start().await;
    let route = gate
        .route(json!({
            "path_prefix": "/a", "targets": [{"url": upstream.url}], "methods": ["GET", "POST"],
        }))
        .await;
    let (key_id, secret) = gate.key(json!({"source_path": "app", "rate_limit": 1})).await;
    gate.settle().await;
    let client = gate.nodes[0].with_key(&secret).with("user-agent", "e2e/1 \"ü\"");

    let sent = client.send(Method::POST, "/a/b?q=secret-query", "12345").await;
    assert_eq!(sent.status, StatusCode::OK);
    let mut statuses = vec![200];
    for (answer, status) in [
        (client.get("/a").await, 429),
        (gate.nodes[1].proxy.get("/a").await, 401),
        (gate.nodes[1].with_key(&format!("fg_{}", "0".repeat(38))).get("/a").await, 401),
        (client.get("/none").await, 404),
        (client.send(Method::DELETE, "/a", "").await, 405),
        (client.get("/a/%2e%2e/b").await, 400),
    ] {
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&secret));
        statuses.push(status);
    }

    let mut logs = gate.logs(statuses.len()).await;
    logs.reverse();
    let stored: Vec<_> = logs.iter().map(|log| log["status_code"].clone()).collect();
    assert_eq!(stored, statuses, "one event a request, refused ones too");
    let expected = json!({
        "request_id": sent.header("x-request-id"),
        "key_id": key_id,
        "source_path": "app",
        "method": "POST",
        "path": "/a/b",
        "target_url": upstream.url,
        "status_code": 200,
        "request_size": 5,
        "response_size": sent.body.len(),
        "user_agent": "e2e/1 \"ü\"",
        "ip_address": "127.0.0.1",
        "environment": "default",
        "node_id": "node-1",
        "route_id": route,
        "attempts": 1,
        "error": "",
        "rate_limited": false,
        "secret_version": 1,
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&logs[0][field], value, "{field}");
    }
    for field in ["response_time_ms", "upstream_time_ms", "ttfb_ms"] {
        assert!(logs[0][field].as_f64().is_some_and(|ms| ms > 0.0), "{field}");
    }
    assert!(logs[0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!((&logs[1]["rate_limited"], &logs[1]["key_id"]), (&json!(true), &json!(key_id)));
    let errors: Vec<_> = logs.iter().skip(2).take(2).map(|log| log["error"].clone()).collect();
    assert_eq!(errors, ["key_missing", "key_unknown"]);

    for (filter, found) in [
        (format!("key_id={key_id}"), 2),
        ("source_path=app&status_code=4xx".into(), 1),
        ("path_prefix=/a/b".into(), 1),
        ("method=DELETE".into(), 1),
        ("status_code=404".into(), 1),
        ("end_time=2020-01-01T00:00:00Z".into(), 0),
    ] {
        let page = gate.admin.get(&format!("/admin/logs?{filter}")).await.json();
        assert_eq!(page["logs"].as_array().map(Vec::len), Some(found), "{filter}");
    }
    let mut paged = gate.all_logs_by(2).await;
    paged.reverse();
    assert_eq!(paged, logs, "pages hold every event once");

    let rotate = format!("/admin/keys/{key_id}/rotate");
    let rotated = gate.admin.json(Method::POST, &rotate, json!({})).await;
    let rotated = rotated["key_value"].as_str().expect("a secret");
    gate.settle().await;
    gate.nodes[0].has_on_disk("keys", &key_id).await;
    assert_eq!(gate.nodes[1].with_key(rotated).get("/none").await.status, StatusCode::NOT_FOUND);
    for secret in [&secret, rotated] {
        nowhere(&gate, secret, &[]).await;
        // Nor without what every secret begins with, and its checksum.
        nowhere(&gate, &secret[3..35], &[]).await;
    }
    nowhere(&gate, &gate.token(), &["owner-token"]).await;
    nowhere(&gate, "secret-query", &[]).await;
}

const ROUNDS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_events_are_stored_as_requests_were_sent() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).start().await;
    let route = json!({
        "path_prefix": "/", "targets": [{"url": upstream.url}], "methods": ["GET"],
        "required_permissions": ["a:read"],
    });
    gate.route(route).await;
    let allowed = json!({"source_path": "app", "permissions": ["a:*"], "rate_limit": 1_000_000});
    let (_, good) = gate.key(allowed.clone()).await;
    let (revoked_id, revoked) = gate.key(allowed).await;
    let (_, poor) = gate.key(json!({"source_path": "poor", "rate_limit": 1_000_000})).await;
    let (_, limited) =
        gate.key(json!({"source_path": "limited", "permissions": ["*"], "rate_limit": 1})).await;
    gate.admin.json(Method::POST, &format!("/admin/keys/{revoked_id}/revoke"), json!({})).await;
    gate.settle().await;
    // The limited key has spent its one request on each node.
    for node in &gate.nodes {
        assert_eq!(node.with_key(&limited).get("/").await.status, StatusCode::OK);
    }

    // What is sent with which key, and the event it becomes.
    let kinds = [
        (Method::GET, &*good, 200, ""),
        (Method::GET, &*poor, 403, "permission_missing"),
        (Method::GET, &*revoked, 401, "key_revoked"),
        (Method::GET, "fg_junk", 401, "key_unknown"),
        (Method::POST, &*good, 405, "method_not_allowed"),
        (Method::GET, &*limited, 429, "rate_limited"),
    ];
    let clients = gate.nodes.iter().flat_map(|node| {
        kinds.clone().map(|(method, secret, status, _)| {
            let client = node.with_key(secret);
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let answer = client.send(method.clone(), "/x", "").await;
                    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
                }
            })
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("every answer is as expected");
    }

    let sent = gate.nodes.len() * (kinds.len() * ROUNDS + 1);
    let mut ledger = [0.0; 3];
    for node in &gate.nodes {
        let count = async |name: &str| node.metric(&format!("fastgate_audit_events_{name}")).await;
        eventually("every event is shipped", async || {
            (count("spooled").await == 0.0).then_some(())
        })
        .await;
        for (sum, name) in ledger.iter_mut().zip(["produced", "stored", "dropped"]) {
            *sum += count(&format!("{name}_total")).await;
        }
    }
    println!("{sent} requests; events produced, stored, dropped: {ledger:?}");
    assert_eq!(ledger, [sent as f64, sent as f64, 0.0]);
    let logs = gate.all_logs_by(1000).await;
    assert_eq!(logs.len(), sent);
    let ids: HashSet<_> = logs.iter().map(|log| log["request_id"].to_string()).collect();
    assert_eq!(ids.len(), sent, "no event twice");
    for (_, _, status, error) in kinds {
        let is_it = |log: &&Value| log["error"] == error && log["status_code"] == status;
        let found = logs.iter().filter(|log| log["path"] == "/x").filter(is_it).count();
        assert_eq!(found, gate.nodes.len() * ROUNDS, "{status} {error}");
    }
}

/// Fails where `text` stands in the database, a file of any process, or what they serve.
pub(super) async fn nowhere(gate: &Gate, text: &str, but_for: &[&str]) {
    assert!(!gate.dump().contains(text), "in the database");
    let mut folders = vec![gate.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap_or_default();
            let is_there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!is_there || but_for.contains(&name.as_str()), "in {}", path.display());
        }
    }
    for node in &gate.nodes {
        let metrics = node.ops.get("/metrics").await.body;
        assert!(!String::from_utf8_lossy(&metrics).contains(text), "in metrics");
    }
    for path in ["/metrics", "/admin/keys", "/admin/logs", "/admin/events", "/admin/nodes"] {
        let answer = gate.admin.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(text), "in {path}");
    }
}
