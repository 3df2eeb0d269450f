//! What nodes push, as users find it: listed, taken away as a file, and added up.

use std::time::{Duration, SystemTime};

use fastgate::{
    admin::v1::{
        ExportLogsRequest, ListLogsRequest, LogEvent, RecordedBody, TailLogsRequest,
        TailLogsResponse, log_service_client::LogServiceClient,
    },
    node::v1::{
        Batch, Gap, OpenTails, TailProgress, TailReport, TailedEvent, TailingNode,
        audit_ingest_client::AuditIngestClient, audit_tail_client::AuditTailClient,
    },
};
use http::Method;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::plane::Plane;

/// More than are read at once.
const EVENTS: u64 = 2500;

/// A user agent as no client should send one.
const HOSTILE: &str = "=cmd()\r\n\u{1b}[2Jx\u{9b}2J,\"\u{2028}";

async fn push(plane: &Plane, first_seq: u64, events: Vec<LogEvent>) {
    push_batch(plane, Batch { first_seq, events, ..batch("n1", "b1") }).await;
}

fn batch(node_id: &str, boot_id: &str) -> Batch {
    let environment = "default".into();
    Batch { node_id: node_id.into(), boot_id: boot_id.into(), environment, ..Batch::default() }
}

async fn push_batch(plane: &Plane, batch: Batch) {
    let node = format!("http://{}", plane.node_address);
    let mut client = AuditIngestClient::connect(node).await.expect("a connection");
    let first_seq = batch.first_seq;
    let acks = client.push(tokio_stream::iter([batch])).await.expect("a stream");
    let ack = acks.into_inner().message().await.expect("no fault").expect("an ack");
    assert_eq!(ack.first_seq, first_seq);
}

/// The events of the last seconds, the last of them the newest.
fn events(count: u64, now: SystemTime) -> Vec<LogEvent> {
    let event = |n: u64| LogEvent {
        timestamp: Some((now - Duration::from_millis(count - n)).into()),
        request_id: format!("r{n}"),
        key_id: "k1".into(),
        source_path: "app".into(),
        method: "GET".into(),
        path: format!("/a/{n}"),
        route_id: "a".into(),
        target_url: "http://127.0.0.1:1".into(),
        status_code: if n.is_multiple_of(10) { 503 } else { 200 },
        error: if n.is_multiple_of(10) { "upstream_unavailable".into() } else { String::new() },
        response_time_ms: n as f64,
        user_agent: HOSTILE.into(),
        environment: "default".into(),
        node_id: "n1".into(),
        ..LogEvent::default()
    };
    (0..count).map(event).collect()
}

async fn fill(plane: &Plane) {
    push(plane, 0, events(EVENTS, SystemTime::now())).await;
}

#[tokio::test]
async fn a_file_holds_what_the_list_shows_a_line_each() {
    let plane = Plane::start().await;
    fill(&plane).await;
    let jsonl = plane.rest(Method::GET, "/admin/logs:export", "").await;
    assert_eq!(
        (jsonl.status, &jsonl.headers["content-type"]),
        (200, &"application/jsonl".parse().expect("a value"))
    );
    let text = std::str::from_utf8(&jsonl.body).expect("text");
    assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "a terminal shows it as it is");
    let lines: Vec<Json> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(lines.len() as u64, EVENTS);
    let listed = plane.rest(Method::GET, "/admin/logs?page_size=1000", "").await.json();
    for (line, listed) in lines.iter().zip(listed["logs"].as_array().expect("logs")) {
        assert_eq!(line, listed);
    }
    assert_eq!(lines[0]["user_agent"], HOSTILE);

    let path = "/admin/logs:export?format=csv&status_code=5xx&min_response_time_ms=100";
    let csv = plane.rest(Method::GET, path, "").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let text = std::str::from_utf8(&csv.body).expect("text");
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + 240);
    assert!(lines[0].starts_with("timestamp,request_id,key_id,"), "{}", lines[0]);
    assert!(
        lines[1].contains(",r2490,k1,app,GET,/a/2490,http://127.0.0.1:1,503,2490,"),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains("\"'=cmd()\\u000d"), "no formula: {}", lines[1]);

    let empty = plane.rest(Method::GET, "/admin/logs:export?format=csv&key_id=k2", "").await;
    assert_eq!((empty.status, empty.body.iter().filter(|byte| **byte == b'\n').count()), (200, 1));
}

#[tokio::test]
async fn a_file_comes_in_parts_over_grpc() {
    let plane = Plane::start().await;
    fill(&plane).await;
    let admin = format!("http://{}", plane.address);
    let mut client = LogServiceClient::connect(admin).await.expect("a connection");
    let request = plane.asked(ExportLogsRequest { method: "GET".into(), ..Default::default() });
    let mut parts = client.export_logs(request).await.expect("a stream").into_inner();
    let mut lines = 0;
    while let Some(part) = parts.message().await.expect("a part") {
        assert!(part.data.len() <= 257 << 10, "{} bytes", part.data.len());
        lines += part.data.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(lines as u64, EVENTS);
}

#[tokio::test]
async fn what_is_recorded_of_bodies_makes_no_answer_too_large() {
    let plane = Plane::start().await;
    let body = Some(RecordedBody { text: "b\"".repeat(30_000), ..RecordedBody::default() });
    for (seq, event) in (0..).zip(events(100, SystemTime::now())) {
        let event = LogEvent { request_body: body.clone(), response_body: body.clone(), ..event };
        push(&plane, seq, vec![event]).await;
    }
    let mut newest_first: Vec<_> = (0..100).map(|n| format!("r{n}")).collect();
    newest_first.reverse();
    // A client of 4 MiB, as most are.
    let admin = format!("http://{}", plane.address);
    let mut client = LogServiceClient::connect(admin).await.expect("a connection");
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListLogsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = client.list_logs(plane.asked(request)).await.expect("a page").into_inner();
        listed.extend(page.logs.into_iter().map(|log| log.request_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, newest_first);
    let mut parts = client.export_logs(plane.asked(ExportLogsRequest::default())).await;
    let parts = parts.as_mut().expect("a stream").get_mut();
    let mut lines = 0;
    while let Some(part) = parts.message().await.expect("a part") {
        lines += part.data.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(lines, 100);
    // The first that a tail shows are the newest that fit, and it says how many do not.
    let mut tail = tail(&plane, TailLogsRequest { lines: 60, ..Default::default() }).await;
    let (first, passed_over) = next(&mut tail).await;
    assert_eq!((first.request_id, passed_over), (format!("r{}", 40 + passed_over), passed_over));
    assert!((30..60).contains(&passed_over), "{passed_over}");
    plane.stop().await;
}

#[tokio::test]
async fn exports_under_way_are_bounded() {
    let plane = Plane::start().await;
    let body = Some(RecordedBody { text: "b".repeat(60_000), ..RecordedBody::default() });
    let events = events(60, SystemTime::now()).into_iter();
    let events = events.map(|event| LogEvent { request_body: body.clone(), ..event }).collect();
    push(&plane, 0, events).await;
    let export = async || {
        // Of their own, for what one connection holds of unread answers is bounded, too.
        let admin = format!("http://{}", plane.address);
        let mut client = LogServiceClient::connect(admin).await.expect("a connection");
        let request = plane.asked(ExportLogsRequest::default());
        client.export_logs(request).await.map(tonic::Response::into_inner)
    };
    // None of them is read.
    let mut under_way = Vec::new();
    for _ in 0..16 {
        under_way.push(export().await.expect("a stream"));
    }
    let refused = export().await.expect_err("one too many");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("16 exports"), "{}", refused.message());
    // One that is read to its end makes room, as does one whose client leaves.
    let mut read = under_way.pop().expect("a stream");
    while read.message().await.expect("a part").is_some() {}
    under_way.push(export().await.expect("room for one"));
    under_way.truncate(8);
    let begun = std::time::Instant::now();
    while let Err(refused) = export().await {
        assert!(begun.elapsed() < Duration::from_secs(5), "{refused}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_tail_shows_the_last_events_and_each_that_comes_once() {
    let plane = Plane::start().await;
    fill(&plane).await;
    let asked = TailLogsRequest { lines: 2, status_code: "2xx".into(), ..Default::default() };
    let mut tail = tail(&plane, asked).await;
    let mut next = async || next(&mut tail).await.0.request_id;
    assert_eq!((next().await, next().await), ("r2498".into(), "r2499".into()));
    for round in 0..3 {
        let at = EVENTS + 11 * round;
        let mut new = events(11, SystemTime::now());
        new.iter_mut().for_each(|event| event.request_id = format!("{round}{}", event.request_id));
        push(&plane, at, new).await;
        for n in 1..10 {
            assert_eq!(next().await, format!("{round}r{n}"));
        }
    }
    let stopped = plane.stop().await;
    assert!(stopped < Duration::from_secs(5), "{stopped:?}");
}

async fn tail(plane: &Plane, asked: TailLogsRequest) -> Streaming<TailLogsResponse> {
    let admin = format!("http://{}", plane.address);
    let mut client = LogServiceClient::connect(admin).await.expect("a connection");
    client.tail_logs(plane.asked(asked)).await.expect("a stream").into_inner()
}

/// The next event of a tail, and how many were passed over before it.
async fn next(tail: &mut Streaming<TailLogsResponse>) -> (LogEvent, u64) {
    let shown = tail.message().await.expect("no fault").expect("an event");
    (shown.log.expect("an event"), shown.passed_over)
}

/// A node that serves tails.
struct Tailed {
    reports: mpsc::Sender<TailReport>,
    open: Streaming<OpenTails>,
}

impl Tailed {
    async fn of(plane: &Plane, node_id: &str, environment: &str) -> Self {
        let (reports, messages) = mpsc::channel(16);
        let node = TailingNode { node_id: node_id.into(), environment: environment.into() };
        let hello = TailReport { node: Some(node), ..TailReport::default() };
        reports.send(hello).await.expect("room");
        let node = format!("http://{}", plane.node_address);
        let mut client = AuditTailClient::connect(node).await.expect("a connection");
        let open = client.follow(ReceiverStream::new(messages)).await.expect("a stream");
        Self { reports, open: open.into_inner() }
    }

    /// Says that it sends all from now on, but for some.
    async fn begin(&self, tail_id: u64, passed_over: u64) {
        let since = Some(SystemTime::now().into());
        let tails = vec![TailProgress { tail_id, since, passed_over }];
        self.reports.send(TailReport { tails, ..TailReport::default() }).await.expect("room");
    }

    async fn send(&self, tail_id: u64, event: LogEvent) {
        let events = vec![TailedEvent { event: Some(event), tail_ids: vec![tail_id] }];
        self.reports.send(TailReport { events, ..TailReport::default() }).await.expect("room");
    }
}

#[tokio::test]
async fn a_tail_shows_what_nodes_send_and_looks_up_the_rest() {
    let plane = Plane::start().await;
    let created = plane.rest(Method::POST, "/admin/environments", "{\"environment\": \"other\"}");
    assert_eq!(created.await.status, 201);
    let mut node = Tailed::of(&plane, "n1", "default").await;
    let mut of_other = Tailed::of(&plane, "n1", "other").await;
    let asked = TailLogsRequest { status_code: "2xx".into(), ..Default::default() };
    let mut tail = tail(&plane, asked).await;
    let open = node.open.message().await.expect("no fault").expect("a list").tails;
    let filter = open[0].filter.as_ref().expect("a filter");
    assert_eq!((open.len(), &*filter.status_code), (1, "2xx"));
    let id = open[0].tail_id;

    let event = |id: &str, status| LogEvent {
        timestamp: Some(SystemTime::now().into()),
        request_id: id.into(),
        status_code: status,
        node_id: "n1".into(),
        ..LogEvent::default()
    };
    node.begin(id, 3).await;
    let first = event("first", 200);
    // Of a node that knows less of filters, and of one of another environment.
    node.send(id, event("other status", 404)).await;
    of_other.send(id, event("other environment", 200)).await;
    node.send(id, LogEvent { node_id: "n2".into(), ..first.clone() }).await;
    let (shown, passed_over) = next(&mut tail).await;
    let told = (&*shown.request_id, &*shown.node_id, &*shown.environment, passed_over);
    assert_eq!(told, ("first", "n1", "default", 3), "a node speaks for itself");

    // It comes both ways, and the second way is left to the node. What others store is looked up.
    push(&plane, 0, vec![first, event("sent by itself", 200)]).await;
    let of_n2 = Batch { events: vec![event("looked up", 200)], ..batch("n2", "b2") };
    push_batch(&plane, of_n2).await;
    let (shown, passed_over) = next(&mut tail).await;
    assert_eq!((&*shown.request_id, passed_over), ("looked up", 0));

    // Without its stream nothing is left to the node.
    drop(node);
    assert_eq!(next(&mut tail).await.0.request_id, "sent by itself");

    let mut node = Tailed::of(&plane, "n1", "default").await;
    let open = node.open.message().await.expect("no fault").expect("a list");
    assert_eq!(open.tails.len(), 1);
    drop(tail);
    let open = node.open.message().await.expect("no fault").expect("a list");
    assert_eq!(open.tails, []);
    plane.stop().await;
    assert!(of_other.open.message().await.is_err(), "it was told of no tail");
}

#[tokio::test]
async fn tails_are_bounded() {
    let plane = Plane::start().await;
    let mut tails = Vec::new();
    for _ in 0..fastgate::audit::TAILS {
        tails.push(tail(&plane, TailLogsRequest::default()).await);
    }
    let one_more = plane.rest(Method::GET, "/admin/logs:tail", "").await;
    assert_eq!(one_more.status, 503);
    assert!(
        one_more.json()["detail"].as_str().is_some_and(|text| text.contains("end one of them"))
    );
    tails.pop();
    // It is noticed when the next thing is sent, or when the stream's end comes.
    let begun = std::time::Instant::now();
    loop {
        let status = plane.grpc("LogService/ListLogs", &json!({})).await;
        status.expect("others are served meanwhile");
        let node = Tailed::of(&plane, "n1", "default").await;
        let mut open = node.open;
        let listed = open.message().await.expect("no fault").expect("a list").tails.len();
        if listed < fastgate::audit::TAILS {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{listed} are open");
    }
}

#[tokio::test]
async fn a_list_without_a_start_holds_to_the_end_what_it_began_with() {
    let plane = Plane::start().await;
    // The older ones are about to be an hour old.
    let border = SystemTime::now() - Duration::from_secs(3600) + Duration::from_secs(2);
    push(&plane, 0, events(4, border)).await;
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/admin/logs?page_size=1&page_token={token}");
        let page = plane.rest(Method::GET, &path, "").await.json();
        listed.push(page["logs"][0]["request_id"].as_str().expect("an event").to_owned());
        token = page["next_page_token"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
    assert_eq!(listed, ["r3", "r2", "r1", "r0"]);
}

#[tokio::test]
async fn metrics_reach_to_the_end_of_all_time() {
    let plane = Plane::start().await;
    for step in ["minute", "hour", "day"] {
        let path = format!("/admin/metrics?end_time=9999-12-31T23:59:59Z&step={step}");
        let answer = plane.rest(Method::GET, &path, "").await;
        assert_eq!(answer.status, 200, "{step}");
        assert_eq!(answer.json()["step"], step);
        assert_eq!(answer.json()["end_time"], "9999-12-31T23:59:59Z");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_before_any_file() {
    let plane = Plane::start().await;
    for (path, field) in [
        ("/admin/logs:export?format=xml", "format"),
        ("/admin/logs:export?status_code=9xx", "status_code"),
        ("/admin/logs:export?nope=1", "nope"),
        ("/admin/logs:export?min_ttfb_ms=-1", "min_ttfb_ms"),
        ("/admin/logs:export?path_contains=%0a", "path_contains"),
        ("/admin/logs:tail?lines=-1", "lines"),
        ("/admin/logs?page_token=AAAA", "page_token"),
        ("/admin/logs/gaps?page_token=AAAA", "page_token"),
        ("/admin/logs/gaps?node_id=%0a", "node_id"),
        ("/admin/logs?rate_limited=maybe", "rate_limited"),
        ("/admin/logs?secret_version=-1", "secret_version"),
        ("/admin/metrics?step=week", "step"),
        ("/admin/metrics?top=0.5", "top"),
        (
            "/admin/metrics?start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z",
            "end_time",
        ),
    ] {
        let answer = plane.rest(Method::GET, path, "").await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let errors = &answer.json()["errors"];
        assert_eq!(errors[0]["field"], field, "{path}: {errors}");
        assert!(errors[0]["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    let missing = plane.rest(Method::GET, "/admin/logs:export?environment=gone", "").await;
    assert_eq!(missing.status, 404);
    let status = plane.grpc("LogService/ExportLogs", &json!({"format": "xml"})).await;
    assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn metrics_hold_what_was_stored_just_now() {
    let plane = Plane::start().await;
    fill(&plane).await;
    let metrics = plane.rest(Method::GET, "/admin/metrics?top=3", "").await.json();
    let totals = &metrics["totals"];
    assert_eq!((&metrics["step"], &totals["requests"]), (&json!("hour"), &json!(EVENTS)));
    assert_eq!((&totals["server_errors"], &totals["error_rate"]), (&json!(250), &json!(0.1)));
    for (quantile, truth) in [("p50_ms", 1249.0), ("p90_ms", 2249.0), ("p99_ms", 2474.0)] {
        let said = totals[quantile].as_f64().expect("a number");
        assert!((said - truth).abs() <= truth / 32.0, "{quantile}: {said}");
    }
    let summed: u64 = metrics["series"]
        .as_array()
        .expect("a series")
        .iter()
        .map(|step| step["sums"]["requests"].as_u64().expect("a number"))
        .sum();
    assert_eq!(summed, EVENTS);
    for (top, name, requests) in [
        ("top_keys", "k1", EVENTS),
        ("top_source_paths", "app", EVENTS),
        ("top_routes", "a", EVENTS),
        ("top_targets", "http://127.0.0.1:1", EVENTS),
        ("top_errors", "upstream_unavailable", 250),
    ] {
        let first = &metrics[top][0];
        assert_eq!((&first["name"], &first["sums"]["requests"]), (&json!(name), &json!(requests)));
    }
    let filtered = plane.rest(Method::GET, "/admin/metrics?status_code=2xx&step=minute", "").await;
    assert_eq!(filtered.json()["totals"]["requests"], 2250);
}

#[tokio::test]
async fn what_nodes_lost_is_listed_page_by_page_where_it_belongs() {
    let plane = Plane::start().await;
    let gap = |first_seq, events, reason: &str| Gap { first_seq, events, reason: reason.into() };
    let lost = vec![gap(0, 1, "killed"), gap(5, 2, "damaged"), gap(9, 1, "dropped")];
    push_batch(&plane, Batch { first_seq: 10, gaps: lost, ..batch("n1", "b1") }).await;
    // The same number as of another boot, and told twice.
    for _ in 0..2 {
        let lost = vec![gap(5, 3, "refused")];
        push_batch(&plane, Batch { first_seq: 8, gaps: lost, ..batch("n2", "b2") }).await;
    }
    let created = plane.rest(Method::POST, "/admin/environments", "{\"environment\": \"other\"}");
    assert_eq!(created.await.status, 201);

    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/admin/logs/gaps?page_size=1&page_token={token}");
        let page = plane.rest(Method::GET, &path, "").await.json();
        listed.extend(page["gaps"].as_array().expect("gaps").iter().cloned());
        token = page["next_page_token"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    let told = |gap: &Json| {
        let text = |field: &str| gap[field].as_str().expect(field).to_owned();
        let number = |field: &str| gap[field].as_u64().expect(field);
        assert!(text("timestamp").ends_with('Z') && text("environment") == "default");
        let numbers = [number("first_seq"), number("last_seq"), number("events")];
        (text("node_id"), text("boot_id"), numbers, text("reason"))
    };
    let row = |node: &str, boot: &str, numbers, reason: &str| {
        (node.to_owned(), boot.to_owned(), numbers, reason.to_owned())
    };
    let all = [
        row("n2", "b2", [5, 7, 3], "refused"),
        row("n1", "b1", [9, 9, 1], "dropped"),
        row("n1", "b1", [5, 6, 2], "damaged"),
        row("n1", "b1", [0, 0, 1], "killed"),
    ];
    assert_eq!(listed.iter().map(told).collect::<Vec<_>>(), all);

    let of_one = plane.grpc("LogService/ListGaps", &json!({"node_id": "n2"})).await;
    let of_one = of_one.expect("listed")["gaps"].as_array().expect("gaps").clone();
    // Their times are written with as many digits as each likes.
    assert_eq!(of_one.iter().map(told).collect::<Vec<_>>(), all[..1]);
    let other = plane.rest(Method::GET, "/admin/logs/gaps?environment=other", "").await.json();
    assert_eq!(other["gaps"], json!([]));
    let gone = plane.rest(Method::GET, "/admin/logs/gaps?environment=gone", "").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn who_changes_a_key_is_shown_its_use() {
    let plane = Plane::start().await;
    let made = plane.rest(Method::POST, "/admin/keys", json!({"source_path": "app"}).to_string());
    let key_id = made.await.json()["key_id"].as_str().expect("an id").to_owned();
    let of_it = events(3, SystemTime::now());
    let of_it = of_it.into_iter().map(|event| LogEvent { key_id: key_id.clone(), ..event });
    push(&plane, 0, of_it.collect()).await;
    let path = format!("/admin/keys/{key_id}");
    let new = json!({"rate_limit": 5}).to_string();
    for (verb, path, body) in [
        (Method::GET, path.clone(), String::new()),
        (Method::PUT, path.clone(), new.clone()),
        (Method::PUT, path.clone(), new),
        (Method::POST, format!("{path}/rotate"), "{}".into()),
        (Method::POST, format!("{path}/revoke"), "{}".into()),
    ] {
        let answer = plane.rest(verb.clone(), &path, body).await.json();
        assert_eq!(answer["usage_count"], 3, "{verb} {path} {answer}");
        assert!(answer["last_used_at"].is_string(), "{verb} {path} {answer}");
    }
}
