//! Bad input gets an answer that names the field, and changes nothing.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Gate, Upstream};

#[tokio::test]
async fn bad_input_is_named_and_changes_nothing() {
    let upstream = Upstream::start("up").await;
    let gate = Gate::with_nodes(1).start().await;
    let good =
        json!({"route_id": "good", "path_prefix": "/good", "targets": [{"url": upstream.url}]});
    gate.route(good.clone()).await;
    let (key_id, _) = gate.key(json!({"source_path": "app"})).await;
    let before = gate.revisions().await;

    let route = |change: Value| {
        let mut route = json!({"path_prefix": "/x", "targets": [{"url": upstream.url}]});
        for (field, value) in change.as_object().expect("fields") {
            route[field] = value.clone();
        }
        ("/admin/routes", route)
    };
    let key = |change: Value| {
        let mut key = json!({"source_path": "app"});
        key.as_object_mut().expect("fields").extend(change.as_object().expect("fields").clone());
        ("/admin/keys", key)
    };
    let cases = [
        (route(json!({"targets": [{"url": "not a url"}]})), 400, "targets[0].url"),
        (route(json!({"targets": [{"url": upstream.url, "weight": 0}]})), 400, "targets"),
        (route(json!({"targets": [], "upstream": "nowhere"})), 400, "upstream"),
        (route(json!({"timeout": -1})), 400, "timeout"),
        (route(json!({"rate_limit": 0})), 400, "rate_limit"),
        (route(json!({"path_prefix": "/good", "route_id": "twin"})), 409, "good"),
        (route(json!({"route_id": "good"})), 409, "good"),
        (route(json!({"metods": ["GET"]})), 400, "metods"),
        (route(json!({"methods": "GET"})), 400, "methods"),
        (key(json!({"expires_at": "2020-01-01T00:00:00Z"})), 400, "expires_at"),
        (key(json!({"rate_limit": -5})), 400, "rate_limit"),
        (key(json!({"source_path": ""})), 400, "source_path"),
        (key(json!({"description": "x".repeat(5 << 20)})), 413, ""),
        (key(json!({"environment": "nowhere"})), 404, "nowhere"),
    ];
    for ((path, body), status, told) in cases {
        let answer = gate.admin.send(Method::POST, path, body.to_string()).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        println!("{status} {}", said.chars().take(160).collect::<String>());
        assert_eq!(answer.status.as_u16(), status, "{told}: {said}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(said.contains(told), "{told}: {said}");
        assert_eq!(gate.revisions().await, before, "{said}");
    }
    let broken: &[u8] = b"{\"source_path\": \"app\", \"description\": \"\xff\xfe\"}";
    let answer = gate.admin.send(Method::POST, "/admin/keys", broken).await;
    assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
    assert_eq!(gate.revisions().await, before);

    // A stale etag.
    let path = format!("/admin/keys/{key_id}");
    let etag = gate.admin.get(&path).await.json()["etag"].clone();
    let change = json!({"description": "first", "etag": etag});
    gate.admin.json(Method::PUT, &path, change.clone()).await;
    let before = gate.revisions().await;
    let stale = gate.admin.send(Method::PUT, &path, change.to_string()).await;
    assert_eq!(stale.status.as_u16(), 409, "{stale:?}");
    assert_eq!(gate.revisions().await, before);
}

const SQL: &str = "x'; DROP TABLE objects; SELECT '1\" OR 1=1 --";

#[tokio::test]
async fn a_fragment_of_sql_is_refused_or_is_only_text() {
    let gate = Gate::with_nodes(0).start().await;
    let targets = json!([{"url": "http://h"}]);
    gate.route(json!({"route_id": "good", "path_prefix": "/good", "targets": targets})).await;
    let (key_id, _) = gate.key(json!({"source_path": "app"})).await;
    // But for those named after a day, which come and go.
    let tables = || {
        let dump = gate.dump();
        let created = dump.lines().filter(|line| line.starts_with("CREATE TABLE"));
        created.filter(|line| !line.contains(|letter: char| letter.is_ascii_digit())).count()
    };
    let before = tables();

    // N makes each body another than those before.
    let key = json!({"source_path": "appN"});
    let route = json!({"path_prefix": "/xN", "targets": targets});
    let upstream = json!({"upstream_id": "upN", "targets": targets});
    let environment = json!({"environment": "envN"});
    let token = json!({"name": "ciN", "role": "viewer"});
    let strings = [
        (
            "/admin/keys",
            key,
            "key_id source_path permissions environment description etag \
            rate_limit_fallback request_id",
        ),
        (
            "/admin/routes",
            route,
            "route_id name environment host path path_prefix methods upstream \
            required_permissions rewrite rate_limit_fallback etag targets request_id",
        ),
        ("/admin/upstreams", upstream, "upstream_id environment description etag targets"),
        ("/admin/environments", environment, "environment description etag"),
        ("/admin/tokens", token, "name role token_id"),
    ];
    let mut tried = 0;
    for (path, body, fields) in strings {
        for field in fields.split_whitespace() {
            let mut body = body.clone();
            let others = body.as_object_mut().expect("an object");
            others.retain(|other, _| {
                !matches!((field, &**other), ("path", "path_prefix") | ("upstream", "targets"))
            });
            for other in others.values_mut() {
                if let Value::String(text) = other {
                    *text = text.replace('N', &tried.to_string());
                }
            }
            body[field] = match field {
                "permissions" | "methods" | "required_permissions" => json!([SQL]),
                "targets" => json!([{"url": format!("http://h/{SQL}")}]),
                _ => json!(SQL),
            };
            let answer = gate.admin.send(Method::POST, path, body.to_string()).await;
            let status = answer.status.as_u16();
            assert!(matches!(status, 201 | 400 | 404), "{path} {field}: {answer:?}");
            if status == 201 && matches!(field, "name" | "description" | "source_path") {
                assert_eq!(answer.json()[field], SQL, "{path}");
            }
            tried += 1;
        }
    }
    // No text of Postgres holds a NUL.
    for text in [SQL, "\0"] {
        let quoted: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in reads(&quoted) {
            let answer = gate.admin.get(&path).await;
            assert!(matches!(answer.status.as_u16(), 200 | 400 | 404), "{path}: {answer:?}");
            tried += 1;
        }
    }
    println!("{tried} fields with SQL in them");
    assert_eq!(tables(), before);
    assert_eq!(gate.admin.get("/admin/routes/good").await.json()["path_prefix"], "/good");
    let path = format!("/admin/keys/{key_id}");
    assert_eq!(gate.admin.get(&path).await.json()["source_path"], "app");
}

/// Every read that takes a text, with this one in its place.
fn reads(text: &str) -> Vec<String> {
    let objects = ["keys", "routes", "upstreams", "environments"];
    let objects = objects.map(|kind| format!("/admin/{kind}/{text}"));
    let lists = ["keys", "routes", "upstreams", "nodes", "logs", "events"].into_iter();
    let lists = lists.flat_map(|list| {
        ["environment", "page_token"].map(|field| format!("/admin/{list}?{field}={text}"))
    });
    let keys = [format!("/admin/keys?source_path={text}")];
    let logs = "key_id source_path path_prefix method status_code request_id route_id";
    let logs = logs.split(' ').map(|field| format!("/admin/logs?{field}={text}"));
    objects.into_iter().chain(lists).chain(keys).chain(logs).collect()
}

#[tokio::test]
async fn fgctl_names_file_line_and_field() {
    let gate = Gate::with_nodes(0).start().await;
    let before = gate.revisions().await;
    let file = gate.dir().join("bad.yaml");
    let yaml =
        "routes:\n  - path_prefix: /a\n    metods: [GET]\n    targets:\n      - url: http://h\n";
    std::fs::write(&file, yaml).expect("a file");
    let out = gate.fgctl(&["apply", "-f", file.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    println!("{}", said.trim());
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("bad.yaml:3"), "{said}");
    assert!(said.contains("metods"), "{said}");

    std::fs::write(&file, "routes:\n  - path_prefix: /a\n    targets:\n      - url: nonsense\n")
        .expect("a file");
    let out = gate.fgctl(&["apply", "-f", file.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    println!("{}", said.trim());
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("targets[0].url"), "{said}");
    assert_eq!(gate.revisions().await, before);

    std::fs::write(&file, "routes:\n  - path_prefix: /a\n    targets:\n      - url: http://h\n")
        .expect("a file");
    let path = file.to_str().expect("text");
    assert_eq!(gate.fgctl(&["diff", "-f", path]).status.code(), Some(2), "there is a difference");
    assert_eq!(gate.fgctl(&["apply", "-f", path]).status.code(), Some(0));
    assert_eq!(gate.fgctl(&["diff", "-f", path]).status.code(), Some(0), "there is none any more");
}
