//! Drives a listening node against a real upstream on loopback.

mod between;
mod bodies;
mod connections;
mod cost;
mod explained;
mod framing;
mod headers;
mod http1;
mod http2;
mod node;
mod recorded;
mod records;
mod retries;
mod tls;

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use fastgate::{admin::v1::Route, node::v1::KeyRecord};
use node::{Node, Upstream, dead_target, get, key, route};

#[test]
fn a_request_with_a_key_gets_the_upstreams_answer() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/api", &upstream)], vec![record]);
    for key in [format!("x-api-key: {secret}"), format!("Authorization: bearer {secret}")] {
        let answer = node.send(&get("/api/x?q=1", &key));
        assert_eq!((answer.status, &*answer.body), (200, "hello"));
        assert_eq!(upstream.last().first, "GET /api/x?q=1 HTTP/1.1");
    }
}

#[test]
fn bad_keys_of_every_kind_look_the_same_to_the_client() {
    let upstream = Upstream::hello();
    let past = SystemTime::now() - Duration::from_secs(1);
    let past_ms = past.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let past_ms = i64::try_from(past_ms).expect("not that late");
    let spoilt = |id: &str, spoil: fn(&mut KeyRecord, i64)| {
        let (mut record, secret) = key(id, &[]);
        spoil(&mut record, past_ms);
        (record, secret)
    };
    let (revoked, revoked_secret) = spoilt("revoked", |key, _| key.is_active = false);
    let (expired, expired_secret) = spoilt("expired", |key, past| key.expires_at_ms = Some(past));
    let (rotated, rotated_secret) =
        spoilt("rotated", |key, past| key.secrets[0].expires_at_ms = Some(past));
    let (_, unknown_secret) = key("never-loaded", &[]);
    let node = Node::start(vec![route("r1", "/", &upstream)], vec![revoked, expired, rotated]);
    let mut bodies = Vec::new();
    for sent in ["", &revoked_secret, &expired_secret, &rotated_secret, &unknown_secret, "junk"] {
        let header = if sent.is_empty() { String::new() } else { format!("x-api-key: {sent}") };
        let answer = node.send(&get("/x", &format!("x-request-id: same\r\n{header}")));
        assert_eq!(answer.status, 401, "{sent}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"fastgate\""));
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(upstream.received().is_empty());
}

#[test]
fn a_key_needs_every_permission_the_route_asks_for() {
    let upstream = Upstream::hello();
    let mut asks = route("r1", "/", &upstream);
    asks.required_permissions = vec!["orders:read".into(), "users:read".into()];
    let keys =
        [key("none", &[]), key("one", &["orders:*"]), key("all", &["orders:*", "users:read"])];
    let (records, secrets): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let node = Node::start(vec![asks], records);
    let status = |secret: &str| node.send(&get("/", &format!("x-api-key: {secret}"))).status;
    assert_eq!(secrets.iter().map(|secret| status(secret)).collect::<Vec<_>>(), [403, 403, 200]);
}

/// All snapshots here have the same revisions, as they can after a database was set back.
#[test]
fn a_caller_met_before_is_what_the_snapshot_in_force_says() {
    let upstream = Upstream::hello();
    let asks = |permission: &str| {
        let required_permissions = vec![permission.to_owned()];
        vec![Route { required_permissions, ..route("r1", "/", &upstream) }]
    };
    let (record, secret) = key("k1", &["orders:read"]);
    let moved = || KeyRecord { source_path: "moved".into(), ..record.clone() };
    let revoked = || KeyRecord { is_active: false, ..record.clone() };
    let limited = || KeyRecord { rate_limit: Some(1), ..record.clone() };
    let reset = |at| KeyRecord { limits_reset_at_ms: Some(at), ..limited() };
    let node = Node::start_empty(|_| {});
    for (routes, keys, statuses) in [
        (asks("orders:read"), vec![record.clone()], [200, 200]),
        (asks("orders:write"), vec![record.clone()], [403, 403]),
        (asks("orders:read"), vec![revoked()], [401, 401]),
        (asks("orders:read"), vec![moved()], [200, 200]),
        (asks("orders:read"), vec![], [401, 401]),
        (asks("orders:read"), vec![limited()], [200, 429]),
        (asks("orders:read"), vec![reset(1)], [200, 429]),
        (asks("orders:read"), vec![reset(2)], [200, 429]),
    ] {
        node.load(routes, keys);
        let status = || node.send(&get("/", &format!("x-api-key: {secret}"))).status;
        assert_eq!([status(), status()], statuses);
    }
    let told = upstream
        .received()
        .into_iter()
        .map(|request| request.header("x-source-path").map(str::to_owned));
    let told: Vec<_> = told.flatten().collect();
    assert_eq!(told[..4], ["mobile_app", "mobile_app", "moved", "moved"]);
    assert_eq!(told[4..], ["mobile_app"; 3]);
}

#[test]
fn what_no_route_takes_is_404_or_405_with_the_methods_there_are() {
    let upstream = Upstream::hello();
    let mut reads = route("reads", "/api", &upstream);
    reads.auth_required = Some(false);
    reads.methods = vec!["GET".into(), "HEAD".into()];
    let mut writes = route("writes", "/api", &upstream);
    writes.methods = vec!["PUT".into()];
    let node = Node::start(vec![reads, writes], vec![]);
    assert_eq!(node.send(&get("/other", "")).status, 404);
    assert_eq!(node.send(&get("/apish", "")).status, 404);
    assert_eq!(node.send(&get("/api/x", "")).status, 200);
    let answer = node.send("DELETE /api/x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[test]
fn a_node_without_a_snapshot_answers_503_and_is_not_ready() {
    let node = Node::start_empty(|_| {});
    assert_eq!(node.send(&get("/", "")).status, 503);
    let ready = node.ops("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("no keys and no config yet"), "{}", ready.body);
    node.load(vec![], vec![]);
    assert_eq!(node.send(&get("/", "")).status, 404);
    assert_eq!(node.ops("/ready").status, 200);
    assert_eq!(node.ops("/health").status, 200);
}

#[test]
fn paths_are_stripped_rewritten_and_put_below_the_targets_own() {
    let upstream = Upstream::hello();
    let mut strip = route("strip", "/strip", &upstream);
    strip.strip_prefix = true;
    let mut rewrite = route("rewrite", "/old", &upstream);
    rewrite.rewrite = "/new/".into();
    let mut based = route("based", "/based", &upstream);
    based.targets[0].url += "/base/";
    let mut routes = vec![strip, rewrite, based, route("rest", "/", &upstream)];
    routes.iter_mut().for_each(|route| route.auth_required = Some(false));
    let node = Node::start(routes, vec![]);
    for (sent, forwarded) in [
        ("/strip/a/b?c=%20d", "/a/b?c=%20d"),
        ("/strip", "/"),
        ("/strip?x", "/?x"),
        ("/strip/", "/"),
        ("/strip//host/x", "//host/x"),
        ("/old/a", "/new/a"),
        ("/old", "/new"),
        ("/based/x?y", "/base/based/x?y"),
        ("/Other//A/%7Euser?", "/Other//A/%7Euser?"),
        ("http://a.b/absolute?q", "/absolute?q"),
    ] {
        assert_eq!(node.send(&get(sent, "")).status, 200, "{sent}");
        assert_eq!(upstream.last().first, format!("GET {forwarded} HTTP/1.1"), "{sent}");
    }
}

#[test]
fn every_request_is_counted_once() {
    let upstream = Upstream::hello();
    let mut open = route("r1", "/open", &upstream);
    open.auth_required = Some(false);
    let mut dead = route("r2", "/dead", &upstream);
    dead.auth_required = Some(false);
    dead.targets = vec![dead_target()];
    let node = Node::start(vec![open, dead, route("r3", "/closed", &upstream)], vec![]);
    for path in ["/open", "/open", "/dead", "/closed", "/nowhere", "/a/../b"] {
        node.send(&get(path, ""));
    }
    let expected = [
        "fastgate_requests_total{class=\"2xx\"} 2",
        "fastgate_requests_total{class=\"4xx\"} 3",
        "fastgate_requests_total{class=\"5xx\"} 1",
        "fastgate_request_duration_seconds_count 6",
        "fastgate_requests_active 0",
        "fastgate_retries_total 1",
        "fastgate_upstream_failures_total 2",
        "fastgate_upstream_connections_total 1",
    ];
    // An answer is out a moment before its request counts as ended.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let metrics = node.ops("/metrics").body;
        let missing = expected.iter().find(|line| !metrics.lines().any(|found| found == **line));
        let Some(missing) = missing else { break };
        assert!(Instant::now() < deadline, "{missing} in\n{metrics}");
        thread::sleep(Duration::from_millis(10));
    }
}
