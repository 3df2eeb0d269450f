//! What a route asks to be recorded: headers, bodies without their secrets, a sample, and how
//! answers ended.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::audit::nowhere;
use crate::support::{Gate, Upstream, eventually};

/// What no file, table or answer may hold.
const SECRET: &str = "s3cr3t-of-the-client";

/// Answers each connection once: in three chunks, and as the path says not to the end.
async fn start_streaming() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            tokio::spawn(stream_to(stream));
        }
    });
    url
}

async fn stream_to(mut stream: TcpStream) {
    let mut received = Vec::new();
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        stream.read_buf(&mut received).await.expect("a request");
    }
    let asked = String::from_utf8_lossy(&received).into_owned();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: sid=SECRET\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        .replace("SECRET", SECRET);
    stream.write_all(head.as_bytes()).await.expect("a client");
    let body = format!(r#"{{"token":"{SECRET}","page":[1,2,{{"token":["{SECRET}"],"x":"y"}}]}}"#);
    let (first, rest) = body.split_at(20);
    let (second, third) = rest.split_at(20);
    for piece in [first, second, third] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).await.expect("a client");
        // Each is one of its own for whoever reads.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    if asked.contains("/forever") {
        while stream.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    } else if !asked.contains("/broken") {
        stream.write_all(b"0\r\n\r\n").await.expect("a client");
    }
}

/// The event of the request with this id.
async fn event(gate: &Gate, id: &str) -> Value {
    eventually("the event", async || {
        let page = gate.admin.get(&format!("/admin/logs?request_id={id}")).await.json();
        page["logs"].get(0).cloned()
    })
    .await
}

#[tokio::test]
async fn what_is_asked_for_is_recorded_and_no_secret_of_it_is_anywhere() {
    let url = start_streaming().await;
    let gate = Gate::with_nodes(1).start().await;
    let (_, key) = gate.key(json!({"source_path": "app", "rate_limit": 100_000})).await;
    let create = [
        "routes",
        "create",
        "recorded",
        "--path-prefix",
        "/r",
        "--target",
        &url,
        "--timeout",
        "5",
        "--record-request-header",
        "X-Tenant,Authorization,X-API-Key",
        "--record-response-header",
        "content-type,set-cookie,x-request-id",
        "--record-request-body",
        "4096",
        "--record-response-body",
        "4096",
        "--record-redact",
        "$.password",
        "--record-redact",
        "$..token",
    ];
    gate.fgctl_json(&create);
    gate.settle().await;
    let client =
        gate.nodes[0].with_key(&key).with("x-tenant", "a").with("content-type", "application/json");
    let basic = format!("Basic {SECRET}");
    let client = client.with("authorization", &basic);

    let sent =
        json!({"user": "u", "password": SECRET, "n": [1, {"token": {"a": SECRET}}]}).to_string();
    let ask = async |id: &'static str, body: String| {
        let answer = client.clone().with("x-request-id", id).send(Method::POST, "/r/x", body).await;
        assert_eq!(answer.status, StatusCode::OK);
        event(&gate, id).await
    };
    let found = ask("whole", sent.clone()).await;
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut headers = found["request_headers"].as_array().expect("a list").clone();
    headers.sort_by_key(|header| header["name"].to_string());
    let expected = [
        header("authorization", "[redacted]"),
        header("x-api-key", "[redacted]"),
        header("x-tenant", "a"),
    ];
    assert_eq!(headers, expected);
    let answered = found["response_headers"].as_array().expect("a list");
    for expected in [
        header("content-type", "application/json"),
        header("set-cookie", "[redacted]"),
        header("x-request-id", "whole"),
    ] {
        assert!(answered.contains(&expected), "{answered:?}");
    }
    let body = |text: &str, truncated: bool, omitted: &str| {
        json!({
            "content_type": "application/json", "text": text, "truncated": truncated,
            "omitted": omitted,
        })
    };
    let kept = r#"{"n":[1,{"token":"[redacted]"}],"password":"[redacted]","user":"u"}"#;
    assert_eq!(found["request_body"], body(kept, false, ""));
    let kept = r#"{"page":[1,2,{"token":"[redacted]","x":"y"}],"token":"[redacted]"}"#;
    assert_eq!(found["response_body"], body(kept, false, ""));
    assert_eq!(
        (&found["response_chunks"], &found["response_end"]),
        (&json!(3), &json!("complete"))
    );

    // What can't be read to its end is left out.
    for (id, body, omitted) in [
        ("long", format!(r#"{{"a":"{}","password":"{SECRET}"}}"#, "x".repeat(5000)), "truncated"),
        ("form", format!("password={SECRET}"), "not_json"),
    ] {
        let found = ask(id, body).await;
        assert_eq!(found["request_body"]["omitted"], omitted, "{id}");
        assert_eq!(found["request_body"]["text"], "", "{id}");
    }
    let broken = client.clone().with("x-request-id", "broken");
    assert!(
        tokio::spawn(async move { broken.send(Method::POST, "/r/broken", "{}").await })
            .await
            .is_err()
    );
    let found = event(&gate, "broken").await;
    assert_eq!(
        (&found["response_chunks"], &found["response_end"]),
        (&json!(3), &json!("upstream_broke_off"))
    );
    assert_eq!((&found["error"], &found["status_code"]), (&json!("upstream_reset"), &json!(200)));
    assert_eq!(found["response_body"], body("", true, "truncated"));
    let left = client.clone().with("x-request-id", "left");
    let leaving = left.send(Method::POST, "/r/forever", "{}");
    assert!(tokio::time::timeout(Duration::from_millis(500), leaving).await.is_err());
    let found = event(&gate, "left").await;
    assert_eq!(
        (&found["response_end"], &found["error"]),
        (&json!("client_gone"), &json!("client_gone"))
    );
    assert!(found["response_chunks"].as_u64().is_some_and(|chunks| chunks > 3), "{found}");
    assert!(found["ttfb_ms"].as_f64() < found["response_time_ms"].as_f64());

    // What does not say what it is can't be asked for, and a change of the route holds at once.
    let update = [
        "routes",
        "update",
        "recorded",
        "--record-body-type",
        "text/*",
        "--record-success-sample",
        "1",
    ];
    let updated = gate.fgctl_json(&update);
    assert_eq!(updated["recording"]["redact"], json!(["$.password", "$..token"]), "kept as it was");
    gate.settle().await;
    let found = ask("other", sent).await;
    assert_eq!(found["request_body"]["omitted"], "content_type");

    // The same in files.
    for (format, wanted) in
        [("jsonl", r#""omitted":"not_json""#), ("csv", r#"""omitted"":""not_json"""#)]
    {
        let out = gate.fgctl(&["logs", "export", "--format", format]);
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.contains(wanted) && !out.contains(SECRET), "{out}");
    }
    nowhere(&gate, SECRET, &[]).await;
    nowhere(&gate, &key, &[]).await;
}

#[tokio::test]
async fn of_what_succeeds_a_sample_is_kept_and_all_is_counted() {
    const SENT: usize = 400;
    let upstream = Upstream::start("up").await;
    let mut gate = Gate::with_nodes(2).start().await;
    let (key_id, key) = gate.key(json!({"source_path": "app", "rate_limit": 1_000_000})).await;
    for (id, sample) in [("none", 0.0), ("some", 0.25)] {
        gate.route(json!({
            "route_id": id, "path_prefix": format!("/{id}"), "targets": [{"url": upstream.url}],
            "strip_prefix": true, "recording": {"success_sample": sample},
        }))
        .await;
    }
    gate.settle().await;
    for number in 0..SENT {
        // What was not stored when the control plane went is, once it is back.
        if number == SENT / 2 {
            gate.kill_control_plane();
        }
        let client = gate.nodes[number % 2].with_key(&key);
        assert_eq!(client.get("/some/x").await.status, StatusCode::OK);
        assert_eq!(client.get("/none/x").await.status, StatusCode::OK);
        if number % 100 == 0 {
            assert_eq!(
                client.get("/none/status/503").await.status,
                StatusCode::SERVICE_UNAVAILABLE
            );
            assert_eq!(client.get("/none/status/301").await.status, StatusCode::MOVED_PERMANENTLY);
            assert_eq!(gate.nodes[0].proxy.get("/none/x").await.status, StatusCode::UNAUTHORIZED);
        }
    }
    gate.start_control_plane().await;
    let all = 2 * SENT as u64 + 12;
    eventually("every request is counted", async || {
        let metrics = gate.admin.get("/admin/metrics").await.json();
        (metrics["totals"]["requests"] == all).then_some(())
    })
    .await;
    let of_key = gate.admin.get(&format!("/admin/keys/{key_id}")).await.json();
    assert_eq!(of_key["usage_count"], all - 4, "but for those without the key");
    for node in &gate.nodes {
        let count = async |name: &str| node.metric(&format!("fastgate_audit_events_{name}")).await;
        eventually("all events are stored", async || (count("spooled").await == 0.0).then_some(()))
            .await;
        let stored = count("stored_total").await;
        assert_eq!((count("produced_total").await, count("dropped_total").await), (stored, 0.0));
    }
    let logs = gate.all_logs_by(1000).await;
    let of = |route: &str, status: u64| {
        logs.iter().filter(|log| log["route_id"] == route && log["status_code"] == status).count()
    };
    assert_eq!([503, 301, 401, 200].map(|status| of("none", status)), [4, 4, 4, 0]);
    // 400 draws at a quarter: beyond 10 standard deviations from a hundred on either side.
    let some = of("some", 200);
    println!("{some} of {SENT} are kept at a share of 0.25");
    assert!((20..=190).contains(&some), "{some}");
}

#[tokio::test]
async fn a_document_says_what_is_recorded_and_its_faults_name_their_lines() {
    let gate = Gate::with_nodes(1).start().await;
    let write = |document: &str| {
        let file = gate.dir().join("routes.yaml");
        std::fs::write(&file, document).expect("a file");
        file.to_str().expect("text").to_owned()
    };
    let document = "routes:\n  - route_id: a\n    path: /a\n    targets: [{url: 'http://127.0.0.1:1'}]\n    \
                    recording:\n      request_headers: [x-tenant]\n      success_sample: 0.1\n      \
                    request_body_bytes: 1024\n      redact: ['$.password']\n";
    let out = gate.fgctl(&["apply", "-f", &write(document)]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let export = gate.fgctl(&["export"]);
    let export = String::from_utf8_lossy(&export.stdout).into_owned();
    for line in ["success_sample: 0.1", "request_body_bytes: 1024", "$.password"] {
        assert!(export.contains(line), "{export}");
    }
    for (before, after, told) in [
        ("0.1", "10", "routes.yaml:7: routes[0].recording.success_sample: is 10: give a share"),
        ("$.pass", "pass", "routes.yaml:9: routes[0].recording.redact[0]: is 'password'"),
        ("redact", "redacted", "routes.yaml:9: unknown field 'redacted' in routes[0].recording"),
    ] {
        let out = gate.fgctl(&["apply", "-f", &write(&document.replace(before, after))]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(told), "{said}");
    }
}
