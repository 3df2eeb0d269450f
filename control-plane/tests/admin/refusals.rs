//! What only one of the ways can get wrong, who may do what, and how it starts and stops.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use bytes::Bytes;
use fastgate_control_plane::Server;
use http::Method;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::plane::{Answer, Plane, settings};

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
        (Method::GET, "/admin/keys?nope=1", b"", 400, &["nope"]),
        (Method::GET, "/admin/keys?page_size=x", b"", 400, &["page_size"]),
        (Method::GET, "/admin/nope", b"", 404, &[]),
        (Method::GET, "/", b"", 404, &[]),
        (Method::PATCH, "/admin/keys", b"", 405, &[]),
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
    let changed = format!("{}x", &plane.token[..plane.token.len() - 1]);
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
async fn the_owner_token_is_written_once_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(&folder);
    let file = settings.bootstrap_token_file.clone().expect("a file");
    drop(Server::build(settings.clone()).await.expect("a server"));
    let first = fs::read_to_string(&file).expect("a token");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(first.starts_with("fga_"));
    // An owner exists: nothing is written, also where the file is gone.
    drop(Server::build(settings.clone()).await.expect("a server"));
    assert_eq!(fs::read_to_string(&file).expect("a token"), first);
    fs::remove_file(&file).expect("removed");
    drop(Server::build(settings.clone()).await.expect("a server"));
    assert!(!file.exists());
    // No owner yet, but a file is in the way: it is not overwritten.
    let folder = tempfile::tempdir().expect("a folder");
    let settings = crate::plane::settings(&folder);
    let file = settings.bootstrap_token_file.clone().expect("a file");
    fs::write(&file, "precious").expect("written");
    let fault = Server::build(settings).await.err().expect("refused").to_string();
    assert!(fault.contains("remove the file"), "{fault}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "precious");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut in_use = settings(&folder);
    in_use.admin_addr = taken.local_addr().expect("an address");
    let mut no_database = settings(&folder);
    no_database.database_url = "postgres://user:hidden@127.0.0.1:1/none".into();
    let mut no_file = settings(&folder);
    no_file.database_url = "sqlite:/nowhere/at/all.db".into();
    for (settings, start) in [
        (in_use, "--admin-addr: can't listen on 127.0.0.1:"),
        (no_database, "--database-url: "),
        (no_file, "--database-url: "),
    ] {
        let fault = Server::build(settings).await.err().expect(start).to_string();
        assert!(fault.starts_with(start), "{fault}");
        assert!(!fault.contains('\n') && !fault.contains("hidden"), "{fault}");
    }
}

#[tokio::test]
async fn it_stops_at_once_when_nobody_calls() {
    let plane = Plane::start().await;
    plane.rest(Method::GET, "/health", "").await;
    assert!(plane.stop().await < Duration::from_secs(2));
}
