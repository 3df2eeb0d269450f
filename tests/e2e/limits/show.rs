//! Where limits stand, for people who ask.

use std::time::Duration;

use serde_json::{Value, json};

use super::counts_in_redis;
use crate::support::{Client, Gate, Upstream};

#[tokio::test]
async fn limits_are_shown_as_they_stand_and_reset_in_redis() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).with_redis().start().await;
    let (key_id, clients) = set_up(&gate, &upstream).await;
    counts_in_redis(&gate).await;
    for request in 0..6 {
        clients[request % 2].get("/").await;
    }
    // What a worker fetched ahead, where Redis takes its time, is given back by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let shown = standings(&gate, &["limits", "show", &key_id]);
    let remaining = |name: &str| {
        let row = shown.as_array().expect("a list").iter().find(|row| row[0] == name);
        row.expect("is shown")[2].as_i64().expect("a number")
    };
    assert_eq!((shown[3][1].as_str(), shown[3][3].as_str()), (Some("orders"), Some("redis")));
    assert_eq!((remaining("parallel"), remaining("route:total")), (3, 44));
    // A token comes every six seconds; what workers hold of the day counts as taken.
    assert!((4..=5).contains(&remaining("key")), "{shown}");
    assert!((80..=94).contains(&remaining("daily")), "{shown}");
    let reset = standings(&gate, &["limits", "reset", &key_id]);
    let own = json!([
        ["key", "", 10, "redis"],
        ["daily", "", 100, "redis"],
        ["parallel", "", 3, "redis"],
        ["route:total", "orders", 44, "redis"],
    ]);
    assert_eq!(reset, own);

    for _ in 0..10 {
        clients[0].get("/").await;
    }
    assert_eq!(clients[0].get("/").await.status, 429);
    standings(&gate, &["limits", "reset", &key_id]);
    assert_eq!(clients[0].get("/").await.status, 200);
    let events = gate.admin.get("/admin/events").await.json();
    let resets = events["events"].as_array().expect("a list").iter().filter(|event| {
        event["action"] == "fastgate.admin.v1.LimitService/ResetLimits" && event["id"] == *key_id
    });
    assert_eq!(resets.count(), 2);
}

#[tokio::test]
async fn nodes_without_redis_tell_each_of_its_own() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).start().await;
    let (key_id, clients) = set_up(&gate, &upstream).await;
    for _ in 0..3 {
        clients[1].get("/").await;
    }
    let of = |shown: &Value, node: &str| -> Vec<i64> {
        let rows = shown.as_array().expect("a list").iter().filter(|row| row[3] == node);
        rows.map(|row| row[2].as_i64().expect("a number")).collect()
    };
    let shown = standings(&gate, &["limits", "show", &key_id]);
    assert_eq!(of(&shown, "node-1"), [10, 100, 3, 50]);
    assert_eq!(of(&shown, "node-2"), [7, 97, 3, 47]);
    let reset = standings(&gate, &["limits", "reset", &key_id]);
    assert_eq!(of(&reset, "node-2"), [10, 100, 3, 47]);

    let unknown = gate.fgctl(&["limits", "show", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("key 'nobody' does not exist"));
}

/// A key with limits of its plan, and a client of it on each node.
async fn set_up(gate: &Gate, upstream: &Upstream) -> (String, Vec<Client>) {
    let limits = ["daily=100/day", "parallel=3/concurrent"];
    let limits = limits.iter().flat_map(|limit| ["--limit", limit]);
    let plan = ["plans", "create", "gold", "--rate-limit", "10"];
    gate.fgctl_json(&plan.into_iter().chain(limits).collect::<Vec<_>>());
    gate.route(json!({
        "route_id": "orders", "path_prefix": "/", "targets": [{"url": upstream.url}],
        "limits": [{"name": "total", "amount": 50, "period": "month", "counts": "all"}],
    }))
    .await;
    let key = gate.fgctl_json(&["keys", "create", "--source-path", "app", "--plan", "gold"]);
    gate.settle().await;
    let secret = key["key_value"].as_str().expect("a secret");
    let clients = gate.nodes.iter().map(|node| node.with_key(secret)).collect();
    (key["key_id"].as_str().expect("an id").to_owned(), clients)
}

/// Name, route, what remains and who counts it, of each limit.
fn standings(gate: &Gate, command: &[&str]) -> Value {
    let shown = gate.fgctl_json(command);
    let row =
        |row: &Value| json!([row["name"], row["route_id"], row["remaining"], row["counted_by"]]);
    shown["limits"].as_array().expect("a list").iter().map(row).collect()
}
