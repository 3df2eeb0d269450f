//! Plans: limits that many keys refer to and each key has for itself.

use std::time::Instant;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Client, Gate, Upstream, eventually};

#[tokio::test]
async fn one_change_of_a_plan_is_in_force_for_all_its_keys_on_both_nodes() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).start().await;
    gate.route(json!({"path_prefix": "/", "targets": [{"url": upstream.url}]})).await;
    gate.fgctl_json(&["plans", "create", "gold", "--rate-limit", "60"]);
    let key = |source: &str| {
        let args = ["keys", "create", "--source-path", source, "--plan", "gold"];
        let key = gate.fgctl_json(&args);
        let text = |field: &str| key[field].as_str().expect(field).to_owned();
        (text("key_id"), text("key_value"))
    };
    let (first, second) = (key("first"), key("second"));
    gate.settle().await;
    let clients = |secret: &str| gate.nodes.iter().map(|n| n.with_key(secret)).collect::<Vec<_>>();
    let (of_first, of_second) = (clients(&first.1), clients(&second.1));

    // The keys share the plan, not what it admits: each has 60 of its own, and one more a second, on
    // each node, for without Redis the nodes count for themselves.
    let started = Instant::now();
    for client in of_first.iter().chain(&of_second) {
        let begun = Instant::now();
        let admitted = admitted(client, 75).await;
        assert!((60..=61 + begun.elapsed().as_secs()).contains(&admitted), "{admitted}");
    }
    let policy = of_first[0].get("/").await.header("ratelimit-policy").to_owned();
    assert!(policy.contains("q=60"), "{policy}");

    let (keys, config) = gate.revisions().await;
    gate.fgctl_json(&["plans", "update", "gold", "--rate-limit", "120"]);
    assert_eq!(gate.revisions().await, (keys, config + 1), "one change, of no key");
    gate.settle().await;
    for clients in [&of_first, &of_second] {
        for client in clients {
            let policy = client.get("/").await.header("ratelimit-policy").to_owned();
            assert!(policy.contains("q=120"), "{policy}");
        }
    }
    // What was used up before stays used up: no new bucket of 120, but two more a second.
    let admitted = admitted(&of_first[0], 75).await;
    assert!(admitted <= 2 * (started.elapsed().as_secs() + 1), "{admitted}");

    let refused = gate.admin.send(Method::DELETE, "/admin/plans/gold", "").await;
    assert_eq!((refused.status, reason(&refused.json())), (StatusCode::CONFLICT, "PLAN_IN_USE"));
    assert_eq!(refused.json()["detail"], "plan 'gold' is used by 2 keys");
    let lost = json!({"source_path": "third", "plan_id": "silver"}).to_string();
    let lost = gate.admin.send(Method::POST, "/admin/keys", lost).await;
    assert_eq!((lost.status, reason(&lost.json())), (StatusCode::BAD_REQUEST, "UNKNOWN_PLAN"));
    assert_eq!(lost.json()["errors"][0]["field"], "plan_id");
    assert_eq!(gate.revisions().await, (keys, config + 1), "neither changed anything");

    gate.fgctl_json(&["keys", "update", &first.0, "--rate-limit", "7"]);
    gate.settle().await;
    let policy = of_first[1].get("/").await.header("ratelimit-policy").to_owned();
    assert!(policy.contains("q=7"), "its own limit comes first: {policy}");

    let listed = gate.fgctl_json(&["plans", "list"]);
    assert_eq!(listed["plans"], json!([gate.fgctl_json(&["plans", "get", "gold"])]));
    assert_eq!(listed["plans"][0]["rate_limit"], 120);
    for (key_id, _) in [&first, &second] {
        gate.fgctl_json(&["keys", "update", key_id, "--clear", "plan_id"]);
    }
    assert!(gate.fgctl(&["plans", "delete", "gold"]).status.success());
    gate.settle().await;
    let policy = of_second[0].get("/").await.header("ratelimit-policy").to_owned();
    assert!(policy.contains("q=100"), "without a plan the default holds: {policy}");
}

/// Written as people write them, told as clients read them.
#[tokio::test]
async fn a_request_must_pass_every_limit_of_its_plan_and_route() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(2).with_redis().start().await;
    let config = json!({
        "plans": [{"plan_id": "gold", "limits": [
            {"name": "calls", "amount": 3600, "period": "hour", "burst": 30},
            {"name": "daily", "amount": 20, "period": "day"},
            {"name": "trial", "amount": 5, "period": "month", "shadow": true},
        ]}],
        "routes": [{"path_prefix": "/", "targets": [{"url": upstream.url}], "limits": [
            {"name": "total", "amount": 25, "period": "month", "counts": "all"},
        ]}],
    });
    // Every JSON text is YAML.
    let file = gate.dir().join("limits.yaml");
    std::fs::write(&file, config.to_string()).expect("written");
    let file = file.to_str().expect("text");
    assert!(gate.fgctl(&["apply", "-f", file]).status.success());
    let key = |source: &str| {
        let key = gate.fgctl_json(&["keys", "create", "--source-path", source, "--plan", "gold"]);
        key["key_value"].as_str().expect("a secret").to_owned()
    };
    let (first, second) = (key("first"), key("second"));
    gate.settle().await;
    for node in &gate.nodes {
        eventually("the node counts in Redis", async || {
            (node.metric("fastgate_limits_state{state=\"redis\"}").await == 1.0).then_some(())
        })
        .await;
    }
    let clients = |secret: &str| gate.nodes.iter().map(|n| n.with_key(secret)).collect::<Vec<_>>();
    let (of_first, of_second) = (clients(&first), clients(&second));
    let answer = of_first[0].get("/").await;
    let policy = answer.header("ratelimit-policy");
    assert_eq!(
        policy,
        "\"key\";q=100;w=60, \"calls\";q=3600;w=3600, \"daily\";q=20;w=86400, \
         \"route:total\";q=25;w=2678400",
        "the environment's default holds beside them",
    );
    let mut counted = 1;
    for client in of_first.iter().chain(&of_first) {
        counted += admitted(client, 8).await;
    }
    assert_eq!(counted, 20, "of each day");
    assert_eq!(admitted(&of_second[0], 10).await, 5, "of all together");
    let refused = of_second[0].get("/").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["violated-policies"], json!(["route:total"]));
    assert_eq!(
        refused.json()["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(upstream.served(), 25);
    let mut in_shadow = 0.0;
    for node in &gate.nodes {
        in_shadow +=
            node.metric("fastgate_limits_refusals_total{limit=\"trial\",mode=\"shadow\"}").await;
    }
    assert_eq!(in_shadow, 15.0, "the second key's five are its plan's trial");
}

fn reason(problem: &Value) -> &str {
    problem["reason"].as_str().unwrap_or_default()
}

/// How many of so many requests were admitted.
async fn admitted(client: &Client, requests: usize) -> u64 {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += u64::from(client.get("/").await.status == StatusCode::OK);
    }
    admitted
}
