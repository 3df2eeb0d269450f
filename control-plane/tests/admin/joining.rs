//! Join tokens, on a control plane that has a CA of nodes.

use fastgate::identity::JoinToken;
use fastgate_control_plane::NodeCa;
use http::Method;
use serde_json::{Value as Json, json};

use crate::plane::Plane;

async fn plane() -> Plane {
    Plane::start_with(|folder, mut settings| {
        settings.node_ca = Some(NodeCa::new(folder.join("ca")));
        settings
    })
    .await
}

async fn created(plane: &Plane, body: Json) -> Json {
    let answer = plane.rest(Method::POST, "/admin/nodes/tokens", body.to_string()).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    answer.json()
}

#[tokio::test]
async fn a_token_is_shown_once_and_names_the_ca() {
    let plane = plane().await;
    let token = created(&plane, json!({"node_id": "n1"})).await;
    let value = JoinToken::parse(token["token_value"].as_str().expect("a value")).expect("a token");
    let another = created(&plane, json!({})).await;
    let other =
        JoinToken::parse(another["token_value"].as_str().expect("a value")).expect("a token");
    assert_eq!(value.ca(), other.ca());
    assert_ne!(value.secret(), other.secret());
    assert_eq!((&token["environment"], &token["node_id"]), (&json!("default"), &json!("n1")));

    let listed = plane.rest(Method::GET, "/admin/nodes/tokens", "").await.json();
    let listed = listed["join_tokens"].as_array().expect("tokens").clone();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|token| token.get("token_value").is_none()), "{listed:?}");
    let dry = json!({"node_id": "n2"}).to_string();
    let dry = plane.rest(Method::POST, "/admin/nodes/tokens?validate_only=true", dry).await;
    assert_eq!((dry.status, dry.json().get("token_value")), (200, None));
    let path = format!("/admin/nodes/tokens/{}", token["token_id"].as_str().expect("an id"));
    assert_eq!(plane.rest(Method::DELETE, &path, "").await.status, 204);
    assert_eq!(plane.rest(Method::DELETE, &path, "").await.status, 404);
    let listed = plane.rest(Method::GET, "/admin/nodes/tokens", "").await.json();
    assert_eq!(listed["join_tokens"].as_array().expect("tokens").len(), 1);
}

#[tokio::test]
async fn a_token_for_what_is_not_there_or_for_ever_is_refused() {
    let plane = plane().await;
    for (body, status, told) in [
        (json!({"environment": "nowhere"}), 404, "environment 'nowhere' does not exist"),
        (json!({"node_id": "No!"}), 400, "node_id"),
        (json!({"expires_at": "2999-01-01T00:00:00Z"}), 400, "more than 30 days ahead"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), 400, "is in the past"),
    ] {
        let answer = plane.rest(Method::POST, "/admin/nodes/tokens", body.to_string()).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{body}: {text}");
        assert!(text.contains(told), "{body}: {text}");
    }
}
