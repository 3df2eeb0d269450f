//! Limits that can't be, and plans that are not there: over REST and `fgctl`, of plans and keys.

use http::Method;
use serde_json::json;

use crate::support::Gate;

const RATES: [i64; 4] = [0, -1, 1_000_000_001, i64::MIN];

#[tokio::test]
async fn a_limit_that_cannot_be_is_told_with_field_fault_and_mend_and_changes_nothing() {
    let gate = Gate::with_nodes(0).start().await;
    gate.fgctl_json(&["plans", "create", "gold", "--rate-limit", "60"]);
    let (key_id, _) = gate.key(json!({"source_path": "app", "plan_id": "gold"})).await;
    let (key, plan) = (format!("/admin/keys/{key_id}"), "/admin/plans/gold");
    let stored = async || (gate.admin.get(&key).await.json(), gate.admin.get(plan).await.json());
    let before = (stored().await, gate.revisions().await);

    let mut tried = 0;
    let limits = RATES.map(|rate| {
        let mend = "give requests a minute, from 1 to 1000000000";
        ("rate_limit", json!(rate), format!("is {rate}: {mend}"))
    });
    let fallback = (
        "rate_limit_fallback",
        json!("maybe"),
        "must be 'local_share', 'open' or 'closed'".to_owned(),
    );
    let lost = (
        "plan_id",
        json!("silver"),
        "names 'silver', which does not exist: create it first".to_owned(),
    );
    for (field, value, told) in limits.into_iter().chain([fallback, lost]) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let option = match field {
            "plan_id" => "--plan".to_owned(),
            field => format!("--{}", field.replace('_', "-")),
        };
        // A plan is on no plan.
        let paths: &[&str] = if field == "plan_id" { &["keys"] } else { &["keys", "plans"] };
        for kind in paths {
            let (own, id) = match *kind {
                "keys" => (json!({"source_path": "bad"}), &*key_id),
                _ => (json!({"plan_id": "bad"}), "gold"),
            };
            for (method, path, body) in [
                (Method::POST, format!("/admin/{kind}"), own),
                (Method::PUT, format!("/admin/{kind}/{id}"), json!({})),
            ] {
                let mut body = body;
                body[field] = value.clone();
                let answer = gate.admin.send(method, &path, body.to_string()).await;
                assert_eq!(answer.status.as_u16(), 400, "{path} {body}: {answer:?}");
                assert_eq!(
                    answer.json()["errors"],
                    json!([{"field": field, "detail": told}]),
                    "{path} {body}"
                );
                tried += 1;
            }
            let create = match *kind {
                "keys" => ["keys", "create", "--source-path", "bad"].as_slice(),
                _ => &["plans", "create", "bad"],
            };
            for args in [create, &[*kind, "update", id]] {
                let said = refused(&gate, &[args, &[&*option, &*text]].concat());
                assert!(said.contains(&format!("  {field}: {told}\n")), "{args:?}: {said}");
                tried += 1;
            }
        }
    }

    let said = refused(&gate, &["plans", "delete", "gold"]);
    assert!(said.contains("plan 'gold' is used by 1 key"), "{said}");
    let told =
        "plan_id: names 'gold', which keys are on: put them on another plan or on none first";
    assert!(said.contains(told), "{said}");
    println!("{} requests were refused", tried + 1);
    assert_eq!((stored().await, gate.revisions().await), before);
    for list in ["keys", "plans"] {
        let held = gate.admin.get(&format!("/admin/{list}")).await.json();
        assert_eq!(held[list].as_array().map(Vec::len), Some(1), "{held}");
    }
}

/// What `fgctl` says, which must not do it.
fn refused(gate: &Gate, args: &[&str]) -> String {
    let out = gate.fgctl(args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
    assert_eq!(out.stdout, b"", "{args:?}");
    said
}
