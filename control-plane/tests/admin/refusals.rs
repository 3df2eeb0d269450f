//! What only one of the ways can get wrong, and who may do what.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::plane::{Answer, Plane};

/// The fields a refusal names.
fn fields(answer: &Answer) -> Vec<String> {
    let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn bad_rest_input_names_what_is_wrong_and_changes_nothing() {
    let plane = Plane::start().await;
    let long = format!(r#"{{"description": "{}"}}"#, "x".repeat(5_000_000));
    for (verb, path, body, status, named) in [
        (Method::POST, "/admin/keys", &b"{\"source_path\": \"\xff\"}"[..], 400, &["body"][..]),
        (Method::POST, "/admin/keys", b"{", 400, &["body"]),
        (Method::POST, "/admin/keys", b"[]", 400, &["body"]),
        (Method::POST, "/admin/keys", b"{\"nope\": 1}", 400, &["nope"]),
        (Method::POST, "/admin/keys", b"{\"rate_limit\": \"x\"}", 400, &["rate_limit"]),
        (Method::POST, "/admin/keys", long.as_bytes(), 413, &[]),
        (
            Method::POST,
            "/admin/keys",
            b"{\"name\": 1, \"source_path\": \"a\", \"source_path\": \"b\"}",
            400,
            &["source_path", "name"],
        ),
        (
            Method::POST,
            "/admin/routes",
            b"{\"targets\": [{}, {\"url\": \"a\", \"url\": \"a\"}]}",
            400,
            &["targets[1].url"],
        ),
        (Method::GET, "/admin/keys?nope=1", b"", 400, &["nope"]),
        (Method::GET, "/admin/keys?page_size=x", b"", 400, &["page_size"]),
        (Method::GET, "/admin/nope", b"", 404, &[]),
        (Method::GET, "/", b"", 404, &[]),
        (Method::PATCH, "/admin/keys", b"", 405, &[]),
        (Method::POST, "/health", b"{}", 405, &[]),
        (Method::DELETE, "/metrics", b"", 405, &[]),
    ] {
        let answer = plane.rest(verb.clone(), path, Bytes::copy_from_slice(body)).await;
        let label = format!("{verb} {path}");
        assert_eq!(answer.status, status, "{label} {:?}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{label}");
        assert_eq!(fields(&answer), named, "{label} {:?}", answer.body);
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{label}");
    }
    let keys = plane.grpc("KeyService/ListKeys", &json!({})).await.expect("keys");
    assert_eq!(keys["keys"], json!([]));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_callers_fault() {
    let plane = Plane::start().await;
    // CreateKeyRequest{key{source_path: <not UTF-8>}}, cut short, and one byte of nothing.
    let not_utf8 = [0x0a, 0x03, 0x1a, 0x01, 0xff];
    for bytes in [&not_utf8[..], &not_utf8[..4], &[0x0a]] {
        let status = plane.grpc_bytes("KeyService/CreateKey", bytes).await.grpc_status();
        assert_eq!(status.code(), Code::InvalidArgument, "{bytes:?} {status:?}");
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(reason.as_deref(), Some("MALFORMED_MESSAGE"));
    }
    let status = plane.grpc_bytes("KeyService/CreateKey", &[0; 5_000_000]).await.grpc_status();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn without_a_valid_token_nothing_but_health_answers() {
    let plane = Plane::start().await;
    let (start, last) = plane.token.split_at(plane.token.len() - 1);
    let changed = format!("{start}{}", if last == "x" { "y" } else { "x" });
    for token in ["", "Bearer ", "Bearer fga_x", &format!("Bearer {changed}"), "Basic Zm9v"] {
        let headers = [("authorization", token)];
        let answer = plane.send(Method::GET, "/admin/keys", &headers, Bytes::new(), false).await;
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");

        let headers = [("authorization", token), ("content-type", "application/grpc")];
        for path in [
            "/fastgate.admin.v1.KeyService/ListKeys",
            "/fastgate.admin.v1.KeyService/NoSuchMethod",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            let body = Bytes::from_static(&[0; 5]);
            let answer = plane.send(Method::POST, path, &headers, body, true).await;
            assert_eq!(answer.grpc_status().code(), Code::Unauthenticated, "{token} {path}");
        }
    }
    let health = plane.send(Method::GET, "/health", &[], Bytes::new(), false).await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("healthy")));
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let path = "/grpc.health.v1.Health/Check";
    let answer = plane.send(Method::POST, path, &headers, Bytes::from_static(&[0; 5]), true).await;
    assert_eq!(answer.grpc_status().code(), Code::Ok);
    assert_eq!(&answer.body[5..], [0x08, 0x01], "serving");
}

#[tokio::test]
async fn roles_bound_what_a_token_may_do_until_it_is_revoked() {
    let mut plane = Plane::start().await;
    let owner = plane.token.clone();
    let token = json!({"token": {"name": "ci", "role": "key_manager"}});
    let token = plane.grpc("AccessService/CreateToken", &token).await.expect("a token");
    plane.token = token["token_value"].as_str().expect("its value").to_owned();

    let key = json!({"key": {"source_path": "app"}});
    plane.grpc("KeyService/CreateKey", &key).await.expect("a key");
    plane.grpc("RouteService/ListRoutes", &json!({})).await.expect("routes");
    let refused = plane.grpc("RouteService/DeleteRoute", &json!({"route_id": "r"})).await;
    let refused = refused.expect_err("no right");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("ROLE_TOO_LOW"));
    assert_eq!(plane.rest(Method::GET, "/admin/tokens", "").await.status, 403);
    assert_eq!(plane.rest(Method::GET, "/admin/logs", "").await.status, 403);

    let mut used = std::mem::replace(&mut plane.token, owner);
    let path = format!("/admin/tokens/{}", token["token_id"].as_str().expect("its id"));
    assert_eq!(plane.rest(Method::DELETE, &path, "").await.status, 204);
    std::mem::swap(&mut plane.token, &mut used);
    assert_eq!(plane.rest(Method::GET, "/admin/keys", "").await.status, 401);
}

#[tokio::test]
async fn a_creation_answers_201_and_where() {
    let plane = Plane::start().await;
    let body = json!({"environment": "staging"}).to_string();
    let answer = plane.rest(Method::POST, "/admin/environments", body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    assert_eq!(answer.headers["location"], "/admin/environments/staging");
    let body = json!({"source_path": "app"}).to_string();
    let answer = plane.rest(Method::POST, "/admin/keys?environment=staging", body).await;
    let location = answer.headers["location"].to_str().expect("text").to_owned();
    assert_eq!(answer.headers["cache-control"], "no-store");
    let read = plane.rest(Method::GET, &location, "").await;
    assert_eq!(read.status, 200, "{location}");
    assert_eq!(read.json()["key_id"], answer.json()["key_id"]);
    assert!(read.json().get("key_value").is_none());
    let dry = json!({"source_path": "app"}).to_string();
    let dry = plane.rest(Method::POST, "/admin/keys?validate_only=true", dry).await;
    assert_eq!((dry.status, dry.headers.get("location")), (200, None));
}

#[tokio::test]
async fn grpc_web_is_spoken_over_http_1() {
    let plane = Plane::start().await;
    let bearer = format!("Bearer {}", plane.token);
    let headers = [("authorization", &*bearer), ("content-type", "application/grpc-web+proto")];
    let path = "/fastgate.admin.v1.KeyService/ListKeys";
    let answer = plane.send(Method::POST, path, &headers, Bytes::from_static(&[0; 5]), false).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc-web+proto");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains("grpc-status:0"), "{text:?}");
}

#[tokio::test]
async fn metrics_count_calls() {
    let plane = Plane::start().await;
    plane.rest(Method::GET, "/admin/keys", "").await;
    let text = plane.send(Method::GET, "/metrics", &[], Bytes::new(), false).await;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    let line = "fastgate_admin_calls_total{method=\"/fastgate.admin.v1.KeyService/ListKeys\",code=\"Ok\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn admins_who_change_one_key_at_once_do_not_undo_each_other() {
    let plane = Plane::start().await;
    let key = json!({"key": {"source_path": "app", "permissions": ["a"]}});
    let key = plane.grpc("KeyService/CreateKey", &key).await.expect("a key");
    let id = key["key_id"].as_str().expect("an id");
    let changes = [
        json!({"rate_limit": 7}),
        json!({"description": "changed"}),
        json!({"permissions": ["b"]}),
        json!({"rate_limit_fallback": "closed"}),
        json!({"expires_at": "2999-01-01T00:00:00Z"}),
        json!({"is_active": false}),
    ];
    let path = format!("/admin/keys/{id}");
    let calls = changes.iter().map(|change| plane.rest(Method::PUT, &path, change.to_string()));
    for answer in join_all(calls).await {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    let key = plane.rest(Method::GET, &path, "").await.json();
    for change in &changes {
        for (field, value) in change.as_object().expect("an object") {
            assert_eq!(&key[field], value, "{field}");
        }
    }
}

#[tokio::test]
async fn only_is_active_true_undoes_a_revocation() {
    let plane = Plane::start().await;
    let key = plane.rest(Method::POST, "/admin/keys", r#"{"source_path": "app"}"#).await.json();
    let path = format!("/admin/keys/{}", key["key_id"].as_str().expect("an id"));
    let revoked = plane.rest(Method::POST, &format!("{path}/revoke"), "").await;
    assert_eq!(revoked.json()["is_active"], false);
    for (mask, body, is_active) in [
        ("", json!({"is_active": null}), false),
        ("?update_mask=is_active", json!({}), false),
        ("?update_mask=*", json!({"source_path": "other"}), false),
        ("?update_mask=*", json!({"source_path": "app", "is_active": null}), false),
        ("", json!({"is_active": true}), true),
        ("?update_mask=*", json!({"source_path": "other"}), true),
    ] {
        let answer = plane.rest(Method::PUT, &format!("{path}{mask}"), body.to_string()).await;
        assert_eq!(answer.json()["is_active"], is_active, "{mask} {body} {:?}", answer.body);
    }
}

#[tokio::test]
async fn what_is_open_to_all_is_asked_for_with_get_or_head() {
    let plane = Plane::start().await;
    for path in ["/health", "/metrics"] {
        let get = plane.send(Method::GET, path, &[], Bytes::new(), false).await;
        let refused = plane.send(Method::POST, path, &[], Bytes::new(), false).await;
        assert_eq!((refused.status, refused.headers["allow"].as_bytes()), (405, &b"GET, HEAD"[..]));
        for h2 in [false, true] {
            let head = plane.send(Method::HEAD, path, &[], Bytes::new(), h2).await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path} {h2}");
            assert_eq!(head.headers["content-type"], get.headers["content-type"]);
            // The time in it has as many digits as it needs.
            let length = |answer: &Answer| -> Option<usize> {
                answer.headers["content-length"].to_str().ok()?.parse().ok()
            };
            let differ = length(&head).expect("a length").abs_diff(length(&get).expect("a length"));
            assert!(differ < 10, "{path} {h2}");
        }
    }
}

#[tokio::test]
async fn a_body_of_another_kind_than_json_is_refused() {
    let plane = Plane::start().await;
    let bearer = format!("Bearer {}", plane.token);
    let post = async |kind: &str, body: &'static str| {
        let kind = Some(("content-type", kind)).filter(|(_, kind)| !kind.is_empty());
        let headers: Vec<_> =
            [("authorization", bearer.as_str())].into_iter().chain(kind).collect();
        plane.send(Method::POST, "/admin/keys", &headers, body.into(), false).await
    };
    let key = r#"{"source_path": "app"}"#;
    for kind in [
        "",
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/a+json",
        // What curl -d says of whatever it sends.
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(post(kind, key).await.status, 201, "{kind}");
    }
    for kind in ["text/plain", "application/xml", "multipart/form-data", "json"] {
        let answer = post(kind, key).await;
        assert_eq!(answer.status, 415, "{kind}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.headers["accept"], "application/json");
        // Of what is not there, the kind does not matter.
        assert_eq!(post(kind, "").await.status, 400, "{kind}");
    }
}

#[tokio::test]
async fn times_up_to_the_year_9999_are_taken_and_shown() {
    let plane = Plane::start().await;
    let last = "9999-12-31T23:59:59Z";
    let key = json!({"key": {"source_path": "app", "expires_at": last}});
    let key = plane.grpc("KeyService/CreateKey", &key).await.expect("a key");
    let path = format!("/admin/keys/{}", key["key_id"].as_str().expect("an id"));
    assert_eq!(plane.rest(Method::GET, &path, "").await.json()["expires_at"], last);
    let key = json!({"source_path": "app", "expires_at": last}).to_string();
    let key = plane.rest(Method::POST, "/admin/keys", key).await;
    assert_eq!((key.status, &key.json()["expires_at"]), (201, &json!(last)));
    for wrong in ["2999-01-01T00:00:00+24:00", "2999-01-01T00:00:00", "+010000-01-01T00:00:00Z"] {
        let key = json!({"source_path": "app", "expires_at": wrong}).to_string();
        let answer = plane.rest(Method::POST, "/admin/keys", key).await;
        assert_eq!((answer.status, fields(&answer)), (400, vec!["expires_at".into()]), "{wrong}");
    }
    let keys = plane.rest(Method::GET, "/admin/keys", "").await;
    assert_eq!(keys.json()["keys"].as_array().map(Vec::len), Some(2), "{:?}", keys.body);
}

#[tokio::test]
async fn of_a_key_that_is_not_there_it_is_said_whether_its_environment_is() {
    let plane = Plane::start().await;
    for (environment, missing) in [("default", "key 'k1'"), ("nope", "environment 'nope'")] {
        let path = "/admin/keys/k1";
        let asked = format!("{path}?environment={environment}");
        let within = json!({ "environment": environment }).to_string();
        for (verb, path, body) in [
            (Method::GET, asked.clone(), ""),
            (Method::PUT, asked.clone(), r#"{"rate_limit": 5}"#),
            (Method::DELETE, asked, ""),
            (Method::POST, format!("{path}/rotate"), &*within),
            (Method::POST, format!("{path}/revoke"), &*within),
        ] {
            let answer = plane.rest(verb.clone(), &path, body.to_owned()).await;
            let told = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert_eq!(answer.status, 404, "{verb} {path} {told}");
            assert!(told.contains(missing), "{verb} {path} {told}");
        }
    }
}

#[tokio::test]
async fn a_refused_request_that_is_about_to_end_is_not_cut_off() {
    let plane = Plane::start().await;
    let client: Client<HttpConnector, _> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let whole = Arc::new(AtomicBool::new(false));
    let ends = whole.clone();
    // The end comes a moment after the head, as it does from curl.
    let body = futures_util::stream::once(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        ends.store(true, Relaxed);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))
    });
    let uri = format!("http://{}/fastgate.admin.v1.KeyService/ListKeys", plane.address);
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    let request = request.body(StreamBody::new(Box::pin(body))).expect("a request");
    let answer = client.request(request).await.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "16");
    assert!(whole.load(Relaxed), "it was reset before its end");
    plane.stop().await;
}
