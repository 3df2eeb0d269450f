//! What the audit log is told, and where limits show.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use fastgate::model::Id;

use super::node::{Node, Upstream, dead_target, get, key, open_route, route};

#[test]
fn each_way_a_request_can_end_has_its_name_in_the_audit_log() {
    let upstream = Upstream::hello();
    let (good, good_secret) = key("good", &[]);
    let (mut revoked, revoked_secret) = key("revoked", &[]);
    revoked.is_active = false;
    let (mut expired, expired_secret) = key("expired", &[]);
    expired.secrets[0].expires_at_ms = Some(1);
    let (_, unknown_secret) = key("unknown", &[]);
    let mut asks = route("asks", "/asks", &upstream);
    asks.required_permissions = vec!["x".into()];
    let mut dead = route("dead", "/dead", &upstream);
    dead.targets = vec![dead_target()];
    let mut limited = route("limited", "/limited", &upstream);
    limited.rate_limit = Some(1);
    let routes = vec![route("plain", "/plain", &upstream), asks, dead, limited];
    let node = Node::start(routes, vec![good, revoked, expired]);

    let target = format!("http://{}", upstream.address);
    for (path, secret, status, error, route, key, sent) in [
        ("/plain?secret=1", &good_secret, 200, None, Some("plain"), Some("good"), true),
        ("/plain", &String::new(), 401, Some("key_missing"), Some("plain"), None, false),
        ("/plain", &unknown_secret, 401, Some("key_unknown"), Some("plain"), None, false),
        (
            "/plain",
            &revoked_secret,
            401,
            Some("key_revoked"),
            Some("plain"),
            Some("revoked"),
            false,
        ),
        (
            "/plain",
            &expired_secret,
            401,
            Some("key_expired"),
            Some("plain"),
            Some("expired"),
            false,
        ),
        ("/asks", &good_secret, 403, Some("permission_missing"), Some("asks"), Some("good"), false),
        ("/none", &good_secret, 404, Some("no_route"), None, None, false),
        ("/a%2F..", &good_secret, 400, Some("malformed"), None, None, false),
        ("/limited", &good_secret, 200, None, Some("limited"), Some("good"), true),
        ("/limited", &good_secret, 429, Some("rate_limited"), Some("limited"), Some("good"), false),
    ] {
        let name = if secret.is_empty() { "x-no-key" } else { "x-api-key" };
        let answer = node.send(&get(path, &format!("{name}: {secret}\r\nuser-agent: test")));
        assert_eq!(answer.status, status, "{path}");
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.error), (status, error), "{path}");
        assert_eq!(event.route_id.as_ref().map(Id::as_str), route, "{path}");
        assert_eq!(event.key.as_ref().map(|key| key.key_id()), key, "{path}");
        assert_eq!(event.secret_version, u32::from(key.is_some()), "{path}");
        assert_eq!(event.target_url.as_deref(), sent.then_some(&*target), "{path}");
        assert_eq!(event.attempts, u32::from(sent), "{path}");
        assert_eq!(event.rate_limited, status == 429, "{path}");
        assert_eq!(event.response_size, answer.body.len() as u64, "{path}");
        assert_eq!(event.ip_address.to_string(), "127.0.0.1");
        assert_eq!(event.texts.user_agent(), b"test");
        assert_eq!(event.texts.path(), path.split('?').next().expect("a path").as_bytes());
        assert_eq!(
            answer.header("x-request-id").map(str::as_bytes),
            Some(event.texts.request_id())
        );
    }
    node.send(&get("/dead", &format!("x-api-key: {good_secret}")));
    let event = node.event();
    assert_eq!((event.status.as_u16(), event.error), (502, Some("upstream_unreachable")));
    assert_eq!((event.attempts, event.target_url.is_some()), (0, true));
    assert!(node.has_no_event());
}

#[test]
fn what_comes_while_no_event_can_be_kept_takes_no_room() {
    let upstream = Upstream::hello();
    let node = Node::start_full();
    assert_eq!(node.send(&get("/x", "")).status, 503, "without config");
    node.load(vec![open_route(&upstream)], vec![]);
    for (request, status) in [
        (&*get("/x", ""), 503),
        ("no HTTP\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
    ] {
        assert_eq!(node.send(request).status, status, "{request}");
    }
    // An answer is out a moment before its request counts as ended.
    let patience = Instant::now() + Duration::from_secs(5);
    while node.counted().0 < 4 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((node.counted(), node.has_no_event()), ((4, 4), true));
    assert!(upstream.received().is_empty());
}

#[test]
fn what_breaks_before_anything_was_sent_is_no_attempt() {
    let upstream = Upstream::hello();
    let node = Node::start(vec![open_route(&upstream)], vec![]);
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(node.send(&format!("{chunked}no chunk")).status, 400);
    let event = node.event();
    assert_eq!((event.attempts, event.error), (0, Some("body_broken")));
    assert!(upstream.received().is_empty());
}

#[test]
fn sizes_and_times_are_those_of_the_whole_exchange() {
    let upstream = Upstream::scripted(|_, stream| {
        std::thread::sleep(std::time::Duration::from_millis(60));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").expect("written");
        std::thread::sleep(std::time::Duration::from_millis(60));
        write!(stream, "half").is_ok()
    });
    let node = Node::start(vec![open_route(&upstream)], vec![]);
    node.send(
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let event = node.event();
    assert_eq!((event.request_size, event.response_size), (3, 8));
    let times = [event.upstream_time, event.ttfb, event.response_time];
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0].as_millis() >= 60 && times[2].as_millis() >= 120, "{times:?}");
}

#[test]
fn what_waits_of_a_long_head_is_bounded() {
    let upstream = Upstream::hello();
    let node = Node::start(vec![open_route(&upstream)], vec![]);
    let path = format!("/{}", "p".repeat(9_999));
    let agent = "a".repeat(9_999);
    assert_eq!(node.send(&get(&path, &format!("user-agent: {agent}"))).status, 200);
    let event = node.event();
    assert_eq!(
        (event.texts.path(), event.texts.user_agent()),
        (&path.as_bytes()[..2048], &agent.as_bytes()[..512])
    );
}

#[test]
fn a_client_that_leaves_early_is_recorded_as_gone() {
    let upstream = Upstream::scripted(|request, stream| {
        if request.first.contains("/head") {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").expect("written");
        std::thread::sleep(std::time::Duration::from_millis(500));
        true
    });
    let node = Node::start(vec![open_route(&upstream)], vec![]);
    for (path, status) in [("/head", 499), ("/body", 200)] {
        let mut client = node.connect();
        client.write(&get(path, ""));
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(client);
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.error), (status, Some("client_gone")), "{path}");
        assert_eq!(event.ttfb.is_zero(), status == 499, "{path}");
    }
}

#[test]
fn limits_are_told_with_every_answer_they_count_for() {
    let upstream = Upstream::scripted(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nratelimit: \"theirs\";r=9;t=9\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let (mut record, secret) = key("k1", &[]);
    record.rate_limit = Some(60);
    let mut limited = route("limited", "/limited", &upstream);
    limited.rate_limit = Some(2);
    let mut open = route("open", "/open", &upstream);
    open.auth_required = Some(false);
    open.rate_limit = Some(1);
    let node = Node::start(vec![limited, open], vec![record]);
    let send = |path| node.send(&get(path, &format!("x-api-key: {secret}")));
    let first = send("/limited");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"key\";q=60;w=60, \"route\";q=2;w=60"));
    assert_eq!(first.header("ratelimit"), Some("\"key\";r=59;t=1, \"route\";r=1;t=30"));
    assert_eq!(first.header("retry-after"), None);
    assert_eq!(send("/limited").status, 200);
    let refused = send("/limited");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let wait: u32 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
    assert!((29..=30).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").is_some());
    // Where no key is asked for, the address counts.
    assert_eq!(send("/open").status, 200);
    assert_eq!(node.send(&get("/open", "")).status, 429);
}
