//! Calls that come again with the same request id.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value as Json, json};

use crate::plane::{Answer, Plane};

/// Where each kind of object is created, one such object, and another.
fn creations() -> [(&'static str, Json, Json); 6] {
    let targets = json!([{"url": "http://a"}]);
    [
        ("/admin/keys", json!({"source_path": "app"}), json!({"source_path": "other"})),
        (
            "/admin/routes",
            json!({"path": "/a", "targets": targets}),
            json!({"path": "/b", "targets": targets}),
        ),
        (
            "/admin/upstreams",
            json!({"upstream_id": "a", "targets": targets}),
            json!({"upstream_id": "b", "targets": targets}),
        ),
        ("/admin/plans", json!({"plan_id": "a"}), json!({"plan_id": "b"})),
        ("/admin/environments", json!({"environment": "a"}), json!({"environment": "b"})),
        (
            "/admin/config/apply",
            json!({"routes": [{"name": "c", "path": "/c", "targets": targets}]}),
            json!({"routes": [{"name": "d", "path": "/d", "targets": targets}]}),
        ),
    ]
}

async fn post(plane: &Plane, path: &str, request_id: &str, body: &Json) -> Answer {
    let path = format!("{path}?request_id={request_id}");
    plane.rest(Method::POST, &path, body.to_string()).await
}

/// The answer without the secret, which is shown once.
fn shown(answer: &Answer) -> (u16, Json) {
    let mut json = answer.json();
    if let Some(object) = json.as_object_mut() {
        object.remove("key_value");
    }
    (answer.status, json)
}

/// The newest revisions of all environments.
async fn revisions(plane: &Plane) -> Json {
    let environments = plane.rest(Method::GET, "/admin/environments", "").await.json();
    environments["environments"].clone()
}

#[tokio::test]
async fn a_repeated_call_gets_the_first_answer_and_changes_nothing() {
    let plane = Plane::start().await;
    for (path, body, other) in creations() {
        let first = post(&plane, path, "r1", &body).await;
        assert!(matches!(first.status, 200 | 201), "{path} {:?}", first.body);
        let before = revisions(&plane).await;
        let again = post(&plane, path, "r1", &body).await;
        assert_eq!(shown(&again), shown(&first), "{path}");
        assert!(again.json().get("key_value").is_none(), "shown once");

        let reused = post(&plane, path, "r1", &other).await;
        assert_eq!(reused.status, 400, "{path} {:?}", reused.body);
        assert_eq!(reused.json()["errors"][0]["field"], "request_id", "{path}");
        assert_eq!(revisions(&plane).await, before, "{path}");

        let others = post(&plane, path, "r2", &other).await;
        assert_eq!(others.status, first.status, "{path} {:?}", others.body);
    }
}

#[tokio::test]
async fn what_was_answered_first_is_answered_whatever_happened_since() {
    let plane = Plane::start().await;
    let route = json!({"route_id": "r", "path": "/r", "targets": [{"url": "http://a"}]});
    let route = plane.rest(Method::POST, "/admin/routes", route.to_string()).await.json();
    // Once it was applied, its etag is stale.
    let document = json!({"routes": [
        {"route_id": "r", "path": "/s", "targets": [{"url": "http://a"}], "etag": route["etag"]},
    ]});
    let applied = post(&plane, "/admin/config/apply", "r1", &document).await;
    assert_eq!(applied.status, 200, "{:?}", applied.body);
    assert_eq!(applied.json()["changes"][0]["action"], "ACTION_UPDATE");
    let environment = json!({"environment": "e"});
    let created = post(&plane, "/admin/environments", "r1", &environment).await;
    for path in ["/admin/routes/r", "/admin/environments/e"] {
        assert_eq!(plane.rest(Method::DELETE, path, "").await.status, 204);
    }
    let again = post(&plane, "/admin/config/apply", "r1", &document).await;
    assert_eq!(shown(&again), shown(&applied));
    let again = post(&plane, "/admin/environments", "r1", &environment).await;
    assert_eq!(shown(&again), shown(&created));
    assert_eq!(plane.rest(Method::GET, "/admin/environments/e", "").await.status, 404);
}

#[tokio::test]
async fn calls_that_come_at_once_are_one() {
    let plane = Plane::start().await;
    for (path, body, _) in creations() {
        let calls = (0..8).map(|_| post(&plane, path, "r1", &body));
        let answers = join_all(calls).await;
        for answer in &answers {
            assert_eq!(shown(answer), shown(&answers[0]), "{path}");
        }
        let secrets = answers.iter().filter(|answer| answer.json().get("key_value").is_some());
        assert_eq!(secrets.count(), usize::from(path == "/admin/keys"));
    }
    let empty = json!({"routes": []});
    let calls = (0..8).map(|_| post(&plane, "/admin/config/apply", "r2", &empty));
    for answer in join_all(calls).await {
        assert_eq!((answer.status, &answer.json()["changes"]), (200, &json!([])));
    }
}

#[tokio::test]
async fn a_dry_run_is_no_first_call() {
    let plane = Plane::start().await;
    for (path, body, _) in creations() {
        let dry = post(&plane, path, "r1&validate_only=true", &body).await;
        assert_eq!(dry.status, 200, "{path} {:?}", dry.body);
        let real = post(&plane, path, "r1", &body).await;
        assert!(matches!(real.status, 200 | 201), "{path} {:?}", real.body);
    }
}
