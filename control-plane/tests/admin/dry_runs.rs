//! Calls that change nothing, and must not look as if they had.

use http::Method;
use serde_json::{Value as Json, json};

use crate::plane::Plane;

async fn call(plane: &Plane, verb: Method, path: &str, body: &Json) -> Json {
    let answer = plane.rest(verb, path, body.to_string()).await;
    assert!(answer.status < 300, "{path} {:?}", answer.body);
    answer.json()
}

#[tokio::test]
async fn a_dry_run_shows_the_etag_and_times_that_are_stored() {
    let plane = Plane::start().await;
    let targets = json!([{"url": "http://a"}]);
    let route = json!({"route_id": "r", "path": "/r", "targets": targets});
    for (list, object, id, change) in [
        ("keys", json!({"source_path": "app"}), "key_id", json!({"rate_limit": 5})),
        ("routes", route, "route_id", json!({"priority": 5})),
        (
            "upstreams",
            json!({"upstream_id": "u", "targets": targets}),
            "upstream_id",
            json!({"description": "x"}),
        ),
        ("plans", json!({"plan_id": "p"}), "plan_id", json!({"rate_limit": 5})),
        (
            "environments",
            json!({"environment": "e"}),
            "environment",
            json!({"default_rate_limit": 5}),
        ),
    ] {
        let list = format!("/admin/{list}");
        let dry = format!("{list}?validate_only=true");
        let created = call(&plane, Method::POST, &dry, &object).await;
        assert_eq!(created["etag"], "", "{list}");
        for time in ["created_at", "updated_at"] {
            assert_eq!(created[time], Json::Null, "{list}");
        }
        let stored = call(&plane, Method::POST, &list, &object).await;
        let path = format!("{list}/{}", stored[id].as_str().expect("an id"));
        let dry = format!("{path}?validate_only=true");
        let updated = call(&plane, Method::PUT, &dry, &change).await;
        let (field, value) = change.as_object().expect("fields").iter().next().expect("one");
        assert_eq!(&updated[field], value, "{list}");
        for same in ["etag", "created_at", "updated_at"] {
            assert_eq!(updated[same], stored[same], "{list} {same}");
        }
    }
    let document = json!({"routes": [{"route_id": "r", "path": "/s", "targets": targets}]});
    for path in ["/admin/config/apply?validate_only=true", "/admin/config/diff"] {
        let planned = call(&plane, Method::POST, path, &document).await;
        let change = &planned["changes"][0];
        assert_eq!(change["route"]["path"], "/s");
        for same in ["etag", "created_at", "updated_at"] {
            assert_eq!(change["route"][same], change["route_before"][same], "{path} {same}");
        }
    }
}

#[tokio::test]
async fn the_etag_of_a_dry_run_passes_over_nobodys_change() {
    let plane = Plane::start().await;
    let key = call(&plane, Method::POST, "/admin/keys", &json!({"source_path": "app"})).await;
    let path = format!("/admin/keys/{}", key["key_id"].as_str().expect("an id"));
    let change = json!({"rate_limit": 5});
    for action in ["", "/rotate", "/revoke"] {
        let verb = if action.is_empty() { Method::PUT } else { Method::POST };
        let body = if action.is_empty() { change.clone() } else { json!({}) };
        let dry = format!("{path}{action}?validate_only=true");
        let dry = call(&plane, verb, &dry, &body).await;
        let other = json!({"description": format!("changed before {action}")});
        call(&plane, Method::PUT, &path, &other).await;
        let mine = json!({"rate_limit": 5, "etag": dry["etag"]});
        let stale = plane.rest(Method::PUT, &path, mine.to_string()).await;
        assert_eq!(stale.status, 409, "{action} {:?}", stale.body);
    }
}
