//! Every request is one event, and no secret is anywhere.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Gate, Upstream};

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
    let mut token = String::new();
    let mut paged = Vec::new();
    loop {
        let path = format!("/admin/logs?page_size=2&page_token={token}");
        let page = gate.admin.get(&path).await.json();
        paged.extend(page["logs"].as_array().expect("logs").clone());
        token = page["next_page_token"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    paged.reverse();
    assert_eq!(paged, logs, "pages hold every event once");

    nowhere(&gate, &secret, &[]).await;
    nowhere(&gate, &gate.token(), &["owner-token"]).await;
    nowhere(&gate, "secret-query", &[]).await;
}

/// Fails where `text` stands in the database, a file of any process, or what they serve.
async fn nowhere(gate: &Gate, text: &str, but_for: &[&str]) {
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
    let keys: Value = gate.admin.get("/admin/keys").await.json();
    assert!(!keys.to_string().contains(text), "in the list of keys");
}
