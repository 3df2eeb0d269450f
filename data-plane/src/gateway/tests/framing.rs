//! Requests that two servers could read differently.

use super::node::{Upstream, get, open_node};

#[test]
fn ambiguous_heads_are_refused_and_reach_no_upstream() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: \r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a:b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a..b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: [::1\r\n\r\n", 400),
        ("GET http://other/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a:65536\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a:+1\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nxx", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n", 400),
        ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a/%252e%252e/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a/..;x/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%2Fb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%5cb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://a/x/../y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ] {
        assert_eq!(node.send(request).status, status, "{request:?}");
        assert!(upstream.received().is_empty(), "{request:?}");
    }
}

#[test]
fn nothing_is_read_after_framing_that_is_in_doubt() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for framing in [
        "host: a\r\ntransfer-encoding: gzip, chunked",
        "host: a\r\ntransfer-encoding: chunked, chunked",
        "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "host: a\r\nhost: a\r\ntransfer-encoding: chunked",
    ] {
        let mut client = node.connect();
        let smuggled = get("/smuggled", "");
        client
            .write(&format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{smuggled}"));
        assert_eq!(client.read(false).status, 400, "{framing}");
        assert!(client.is_closed(), "{framing}");
        assert!(upstream.received().is_empty(), "{framing}");
    }
}

#[test]
fn lengths_are_passed_on_in_the_plain_form() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for (sent, passed) in [("0", "0"), ("3", "3"), ("003", "3"), ("3\r\ncontent-length: 3", "3")] {
        let body = if sent == "0" { "" } else { "abc" };
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {sent}\r\n\r\n{body}");
        assert_eq!(node.send(&request).status, 200, "{sent}");
        assert_eq!(upstream.last().headers("content-length"), [passed], "{sent}");
        assert_eq!(upstream.last().body, body, "{sent}");
    }
}

#[test]
fn a_request_with_both_framings_is_forwarded_with_one_and_its_connection_closed() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let mut client = node.connect();
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n2\r\nhi\r\n0\r\n\r\n{smuggled}"
        );
        assert_eq!(client.send(&request).status, 200, "{framing}");
        assert!(client.is_closed(), "{framing}");
        let received = upstream.last();
        assert_eq!(received.body, "hi");
        assert_eq!(received.header("content-length"), None, "{framing}");
        assert_eq!(received.header("transfer-encoding"), Some("chunked"), "{framing}");
    }
}

#[test]
fn plain_heads_of_every_allowed_form_pass() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for request in [
        "GET / HTTP/1.1\r\nhost: a.b:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHOST: A.B.\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET http://A.b/ HTTP/1.1\r\nhost: a.B\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nt: 1\r\n\r\n",
    ] {
        assert_eq!(node.send(request).status, 200, "{request:?}");
    }
    assert_eq!(upstream.last().body, "hi");
    assert_eq!(node.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").status, 204);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::scripted(|request, stream| {
        use std::io::Write as _;
        let path = request.first.split(' ').nth(1).unwrap_or_default();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    client.write(&["/a", "/b", "/c"].map(|path| get(path, "")).concat());
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.read(false).body, path);
    }
}

#[test]
fn heads_that_can_not_be_read_are_answered_and_recorded_like_all_others() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let large = get("/p?q", &format!("x-large: {}", "y".repeat(3_000_000)));
    let many = get("/p", "x: y\r\n".repeat(200).trim_end());
    let long = get(&format!("/{}", "p".repeat(66_000)), "");
    let cut = format!("/{}", "p".repeat(2047));
    for (request, status, error, method, path) in [
        (&*large, 431, "head_too_large", "GET", "/p"),
        (&many, 431, "head_too_large", "GET", "/p"),
        (&long, 431, "head_too_large", "GET", &*cut),
        ("PUT /p HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed", "PUT", "/p"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400, "malformed", "-", "/"),
        ("GET /p HTTP/9.9\r\nhost: a\r\n\r\n", 400, "malformed", "GET", "/p"),
    ] {
        let mut client = node.connect();
        // As the first request, and as one after another.
        if status == 400 {
            assert_eq!(client.send(&get("/", "")).status, 200);
            assert_eq!(node.event().status, 200);
        }
        let answer = client.send(request);
        assert_eq!(answer.status, status, "{error}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{error}");
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.error), (status, Some(error)));
        assert_eq!(
            (event.method.as_str(), event.texts.path()),
            (method, path.as_bytes()),
            "{error}"
        );
        assert_eq!(event.response_size, answer.body.len() as u64, "{error}");
        let id = String::from_utf8_lossy(event.texts.request_id()).into_owned();
        assert_eq!(answer.header("x-request-id"), Some(&*id), "{error}");
        assert!(answer.body.contains(&id), "{}", answer.body);
        assert!(client.is_closed(), "{error}");
    }
    assert!(node.has_no_event());
}

#[test]
fn a_fragment_is_refused() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    assert_eq!(node.send(&get("/a#b", "")).status, 400);
    assert_eq!(node.send(&get("/a?b#c", "")).status, 400);
    let mut client = node.connect();
    for path in ["/a", "/b#c", "/d"] {
        let status = if path.contains('#') { 400 } else { 200 };
        assert_eq!(client.send(&get(path, "x: #")).status, status, "{path}");
    }
}

#[test]
fn an_upstream_can_not_make_clients_lose_step() {
    for (answer, statuses) in [
        // RFC 9112 section 6.3: Transfer-Encoding wins, and what came over Content-Length is lies.
        (
            "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &[200][..],
        ),
        ("transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &[200]),
        ("content-length: 5\r\ncontent-length: 3\r\n\r\nhello", &[502]),
        ("content-length: 5\r\ncontent-length: 5\r\n\r\nhello", &[200]),
        ("transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &[502]),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &[200]),
        ("content-length: -5\r\n\r\nhello", &[502]),
        ("content-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", &[200]),
    ] {
        let upstream = Upstream::scripted(move |_, stream| {
            use std::io::Write as _;
            drop(write!(stream, "HTTP/1.1 200 OK\r\n{answer}"));
            true
        });
        let node = open_node(&upstream, |_| {});
        for _ in 0..3 {
            let mut client = node.connect();
            for _ in 0..3 {
                let got = client.send(&get("/", ""));
                assert!(statuses.contains(&got.status), "{} for {answer:?}", got.status);
                assert!(got.status != 200 || got.body == "hello", "{got:?} for {answer:?}");
            }
        }
    }
}
