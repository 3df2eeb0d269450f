//! What nodes say they would do, what they hold, and what the doctor finds.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Client, Gate, Upstream, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_explained_and_never_sent() {
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).start().await;
    gate.route(json!({
        "route_id": "orders", "path_prefix": "/orders", "targets": [{"url": upstream.url}],
        "required_permissions": ["orders:read"], "rate_limit": 5, "strip_prefix": true,
        "methods": ["GET", "POST"],
    }))
    .await;
    gate.route(json!({
        "route_id": "writes", "path_prefix": "/orders", "methods": ["PUT"],
        "targets": [{"url": upstream.url}],
    }))
    .await;
    let reader = json!({"source_path": "app", "permissions": ["orders:*"]});
    let (key_id, secret) = gate.key(reader).await;
    let (other_id, _) = gate.key(json!({"source_path": "other"})).await;
    gate.settle().await;

    let said = gate.fgctl_json(&["explain", "GET", "/orders/7?full=1", "--key-id", &key_id]);
    assert_eq!(
        (said["status_code"].as_i64(), said["route_id"].as_str()),
        (Some(0), Some("orders"))
    );
    assert_eq!(said["candidates"][1]["reason"], "method");
    assert_eq!(said["key"]["state"], "valid");
    assert_eq!(said["permissions"], json!([{"permission": "orders:read", "held": "orders:*"}]));
    let limits = said["limits"].as_array().expect("limits").iter();
    let limits: Vec<_> = limits
        .map(|one| (one["standing"]["name"].clone(), one["standing"]["remaining"].clone()))
        .collect();
    assert_eq!(limits, [(json!("key"), json!(100)), (json!("route"), json!(5))]);
    assert_eq!(said["targets"][0]["request_url"], format!("{}/7?full=1", upstream.url));

    let said =
        gate.fgctl_json(&["explain", "GET", "/orders", "--key-id", &other_id, "--node", "node-2"]);
    assert_eq!(
        (&said["error"], &said["node_id"]),
        (&json!("permission_missing"), &json!("node-2"))
    );
    let key_file = gate.dir().join("key");
    std::fs::write(&key_file, &secret).expect("written");
    let key_file = key_file.display().to_string();
    for way in [["--key-file", &*key_file], ["-H", &*format!("Authorization: Bearer {secret}")]] {
        let said = gate.fgctl_json(&["explain", "PUT", "/orders/7", way[0], way[1]]);
        assert_eq!((&said["route_id"], &said["status_code"]), (&json!("writes"), &json!(0)));
        assert_eq!(said["key"]["key_id"], *key_id);
    }
    gate.admin.send(Method::POST, &format!("/admin/keys/{key_id}/revoke"), "{}").await;
    gate.settle().await;
    let body = json!({"target": "/orders", "headers": [{"name": "X-API-Key", "value": secret}]});
    let said = gate.admin.json(Method::POST, "/admin/explain", body).await;
    assert_eq!((&said["error"], &said["status_code"]), (&json!("key_revoked"), &json!(401)));
    let table = gate.fgctl(&["explain", "GET", "/orders", "--key-file", &key_file]);
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains("outcome  401 key_revoked: key '"), "{table}");

    assert_eq!(upstream.served(), 0);
    assert!(gate.logs(0).await.is_empty(), "nothing is recorded");
    let events = gate.admin.get("/admin/events").await.json();
    let is_explain =
        |event: &&Value| event["action"].as_str().is_some_and(|a| a.ends_with("Explain"));
    assert_eq!(events["events"].as_array().expect("events").iter().filter(is_explain).count(), 0);
    let logs =
        [gate.control_plane().log(), gate.nodes[0].process().log(), gate.nodes[1].process().log()];
    assert!(!logs.concat().contains(&secret) && !gate.dump().contains(&secret));
}

#[tokio::test]
async fn what_cannot_be_explained_says_why() {
    let gate = Gate::with_nodes(1).start().await;
    gate.settle().await;
    let refused = |args: &[&str]| {
        let out = gate.fgctl(args);
        assert!(!out.status.success(), "{args:?}");
        String::from_utf8(out.stderr).expect("text")
    };
    let told = refused(&["explain", "GET", "/", "--node", "node-9"]);
    assert!(told.contains("node 'node-9' is not connected"), "{told}");
    let told = refused(&["explain", "GET", "/", "--key-id", "nobody"]);
    assert!(told.contains("node 'node-1' does not know the key"), "{told}");
    let told = refused(&["explain", "GET", "/a b", "-H", "X: secret\u{1}value"]);
    assert!(told.contains("target: holds a space") && told.contains("headers[0].value"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    gate.admin.json(Method::POST, "/admin/environments", json!({"environment": "empty"})).await;
    let told = refused(&["explain", "GET", "/", "-e", "empty"]);
    assert!(told.contains("no node of environment 'empty' answers"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_serves_from_is_what_is_exported() {
    let gate = Gate::with_nodes(1).start().await;
    let document = gate.dir().join("gateway.yaml");
    std::fs::write(&document, DOCUMENT).expect("written");
    let document = document.display().to_string();
    gate.fgctl_json(&["apply", "-f", &document, "--wait"]);
    gate.key(json!({"source_path": "app"})).await;
    gate.settle().await;

    let exported = gate.fgctl(&["config", "export"]).stdout;
    let held = gate.fgctl(&["nodes", "config", "node-1", "--document"]).stdout;
    assert_eq!(String::from_utf8_lossy(&held), String::from_utf8_lossy(&exported));
    assert!(String::from_utf8_lossy(&held).contains("team: payments"));

    let (keys, config) = gate.revisions().await;
    let held = gate.fgctl_json(&["nodes", "config", "node-1"]);
    for (ns, revision) in [("keys", keys), ("config", config)] {
        assert_eq!(held[ns]["revision"], revision);
        assert_eq!((&held[ns]["compared"], &held[ns]["head"]), (&json!("match"), &json!(revision)));
        assert_eq!(held[ns]["digest"].as_str().map(str::len), Some(32));
    }
    let counts = ["key_count", "route_count", "upstream_count", "plan_count", "quarantined_count"];
    assert_eq!(counts.map(|count| held[count].as_u64()), [1, 1, 1, 1, 0].map(Some));
    assert_eq!((&held["default_rate_limit"], &held["document"]), (&json!(100), &Value::Null));

    let node = &gate.fgctl_json(&["nodes", "list"])["nodes"][0];
    assert_eq!(
        (&node["digests"], &node["keys_digest"]),
        (&json!("match"), &held["keys"]["digest"])
    );
    assert!(node["started_at"].as_str() <= node["connected_at"].as_str(), "{node}");
}

const DOCUMENT: &str = "\
upstreams:
  - upstream_id: users
    targets:
      - url: http://127.0.0.1:9
plans:
  - plan_id: gold
    rate_limit: 10
    labels:
      team: payments
routes:
  - route_id: users
    path_prefix: /users
    upstream: users
    timeout: 3
    labels:
      team: payments
      example.com/tier: ''
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_is_wrong() {
    let mut gate = Gate::with_nodes(2).with_redis().start().await;
    gate.settle().await;
    eventually("all is well", async || (ailing(&gate).0 == Some(0)).then_some(())).await;

    let soon = fgctl_time(3 * 86_400);
    let (ending, _) = gate.key(json!({"source_path": "app", "expires_at": soon})).await;
    gate.nodes[1].kill();
    gate.redis().kill();
    let mut bad = Vec::new();
    eventually("it is found", async || {
        bad = ailing(&gate).1;
        (bad.len() == 3).then_some(())
    })
    .await;
    assert_eq!(ailing(&gate).0, Some(1), "{bad:?}");
    assert!(bad[0].starts_with("fail node node-1: counts limits without Redis"), "{bad:?}");
    assert!(bad[1].starts_with("warn node node-2: is away, last seen "), "{bad:?}");
    let expected = format!("warn environment default: 1 key ends within 7 days ({ending})");
    assert_eq!(bad[2], expected);

    gate.wire.cut();
    // More than what is sent to nodes may be old.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let bad = ailing(&gate).1;
    assert!(bad.iter().any(|one| one.contains("seconds behind the database")), "{bad:?}");
    assert!(bad.contains(&"fail database: does not answer".to_owned()), "{bad:?}");
    gate.wire.mend();

    let mut elsewhere = gate.fgctl_command(&["doctor", "--addr", "http://127.0.0.1:1"]);
    let out = elsewhere.output().expect("runs");
    let told = String::from_utf8(out.stdout).expect("text");
    assert_eq!(out.status.code(), Some(1));
    assert!(told.starts_with("fail    control plane: can't reach"), "{told}");
    let mut stranger = gate.fgctl_command(&["doctor"]);
    let out = stranger.env("FGCTL_TOKEN", "fga_wrong").output().expect("runs");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("fail    token: "), "{out:?}");
}

/// How the doctor ends, and what it finds to be wrong.
fn ailing(gate: &Gate) -> (Option<i32>, Vec<String>) {
    let out = gate.fgctl(&["-o", "json", "doctor"]);
    let found: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let mut bad = Vec::new();
    for check in found["checks"].as_array().expect("checks") {
        let text = |field: &str| check[field].as_str().expect("text").to_owned();
        if !["ok", "skipped"].contains(&&*text("level")) {
            assert!(!text("mend").is_empty(), "{check}");
            bad.push(format!("{} {}: {}", text("level"), text("check"), text("detail")));
        }
    }
    (out.status.code(), bad)
}

fn fgctl_time(seconds_ahead: u64) -> String {
    let at = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds_ahead);
    let at = prost_types::Timestamp::from(at);
    fastgate::time::Written::new(&at).expect("a time").to_string()
}

#[tokio::test]
async fn the_control_plane_says_whether_it_is_ready() {
    let gate = Gate::with_nodes(1).start().await;
    let port = Client::new(gate.admin_url());
    let ready = async || {
        let answer = port.get("/ready").await;
        (answer.status, answer.json()["reasons"].as_array().expect("reasons").len())
    };
    eventually("it is ready", async || (ready().await == (StatusCode::OK, 0)).then_some(())).await;
    gate.wire.cut();
    eventually("it has two reasons not to be", async || {
        (ready().await == (StatusCode::SERVICE_UNAVAILABLE, 2)).then_some(())
    })
    .await;
    gate.wire.mend();
    eventually("it is ready", async || (ready().await == (StatusCode::OK, 0)).then_some(())).await;
    assert_eq!(port.send(Method::POST, "/ready", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}
