//! What a route asks to be recorded, of requests over either protocol.

use std::io::Write as _;

use bytes::Bytes;
use fastgate::admin::v1::{Recording, Route};
use http_body_util::{BodyExt as _, Full};

use super::{
    connections::over_http2,
    node::{Node, Upstream, get, open_route},
};
use crate::{
    audit::{Ending, Event},
    recorded::{Omitted, Tap},
};

/// Answers with the head its path names, and "answer" behind it.
fn upstream() -> Upstream {
    Upstream::scripted(|request, stream| {
        let head = match request.first.split(' ').nth(1).expect("a path") {
            "/gzip" => "Content-Encoding: gzip\r\nContent-Type: text/plain",
            "/identity" => "Content-Encoding: identity\r\nContent-Type: Text/Plain; charset=utf-8",
            "/image" => "Content-Type: image/png",
            "/untold" => "X-Nothing: 1",
            _ => "Content-Type: text/plain",
        };
        let status = if request.first.contains("/none") { "204 None" } else { "200 OK" };
        if status.starts_with("204") {
            return write!(stream, "HTTP/1.1 {status}\r\n\r\n").is_ok();
        }
        write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: 6\r\n\r\nanswer").is_ok()
    })
}

fn node(upstream: &Upstream, recording: Recording) -> Node {
    let node = Node::start_empty(|_| {});
    node.load(vec![Route { recording: Some(recording), ..open_route(upstream) }], vec![]);
    node
}

type Kept = Option<Result<String, Omitted>>;

fn kept(tap: Option<&Tap>) -> Kept {
    let bytes = tap.and_then(Tap::body)?.bytes;
    Some(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

fn bodies(event: &Event) -> (Kept, Kept) {
    let recorded = event.recorded.as_deref().expect("something");
    (kept(recorded.request_body.as_deref()), kept(recorded.response_body.as_deref()))
}

fn whole(text: &str) -> Kept {
    Some(Ok(text.into()))
}

#[test]
fn bodies_are_recorded_by_what_their_heads_say() {
    let upstream = upstream();
    let limits =
        Recording { request_body_bytes: 9, response_body_bytes: 6, ..Recording::default() };
    let node = node(&upstream, limits);
    for (path, header, sent, request, answer) in [
        ("/x", "Content-Type: text/csv", "a,b", whole("a,b"), whole("answer")),
        ("/x", "content-type: application/json", "{}", whole("{}"), whole("answer")),
        ("/x", "content-type: a/b", "{}", Some(Err(Omitted::ContentType)), whole("answer")),
        ("/x", "x-a: b", "{}", Some(Err(Omitted::ContentType)), whole("answer")),
        ("/x", "content-type: text/csv", "", None, whole("answer")),
        ("/x", "content-type: text/csv", "0123456789", whole("012345678"), whole("answer")),
        ("/gzip", "x-a: b", "", None, Some(Err(Omitted::ContentEncoding))),
        ("/identity", "x-a: b", "", None, whole("answer")),
        ("/image", "x-a: b", "", None, Some(Err(Omitted::ContentType))),
        ("/untold", "x-a: b", "", None, Some(Err(Omitted::ContentType))),
        ("/none", "x-a: b", "", None, None),
    ] {
        let length = sent.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a.b\r\n{header}\r\n");
        let got = node.send(&format!("{head}content-length: {length}\r\n\r\n{sent}"));
        assert!([200, 204].contains(&got.status), "{got:?}");
        assert_eq!(bodies(&node.event()), (request, answer), "{path} {header} {sent}");
    }
    // In pieces.
    let chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let head = "POST /x HTTP/1.1\r\nhost: a.b\r\ncontent-type: text/csv\r\n";
    node.send(&format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!(bodies(&node.event()), (whole("abcde"), whole("answer")));
}

#[test]
fn http2_is_recorded_as_http1_is() {
    let upstream = upstream();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
    let recording = Recording {
        request_headers: texts(&["X-Tenant", "authorization"]),
        response_headers: texts(&["content-type", "x-request-id", "content-length"]),
        request_body_bytes: 100,
        response_body_bytes: 3,
        ..Recording::default()
    };
    let node = node(&upstream, recording);
    let lines = [
        ("content-type", "application/json"),
        ("authorization", "Basic eHl6"),
        ("x-tenant", "a"),
        ("x-request-id", "r-1"),
    ];
    let http1: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    node.send(&format!("POST /x HTTP/1.1\r\nhost: a.b\r\n{http1}content-length: 2\r\n\r\n{{}}"));
    let first = node.event();
    over_http2(&node, async |sender, authority| {
        let request = http::Request::post(format!("http://{authority}/x"));
        let request =
            lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), "answer");
    });
    let second = node.event();
    for event in [&first, &second] {
        let recorded = event.recorded.as_deref().expect("something");
        let mut seen = Vec::new();
        let mut see = |name: &str, value: &[u8]| {
            seen.push(format!("{name}: {}", String::from_utf8_lossy(value)));
        };
        recorded.request_headers.each(&recorded.rules.request_headers, &mut see);
        recorded.response_headers.each(&recorded.rules.response_headers, &mut see);
        seen.sort();
        assert_eq!(
            seen,
            [
                "authorization: [redacted]",
                "content-length: 6",
                "content-type: text/plain",
                "x-request-id: r-1",
                "x-tenant: a",
            ],
        );
        assert_eq!(bodies(event), (whole("{}"), whole("ans")));
        let answer = recorded.response_body.as_deref().and_then(Tap::body).expect("a body");
        assert!(answer.is_cut);
        assert_eq!((event.ending, event.chunks), (Ending::Complete, 1));
    }
}

#[test]
fn what_does_not_succeed_is_recorded_whatever_the_sample() {
    let upstream = Upstream::scripted(|request, stream| {
        let (status, length) = match request.first.split(' ').nth(1).expect("a path") {
            "/short" => (200, 9),
            path => (path[1..].parse().expect("a status"), 2),
        };
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\nok").is_ok()
            && length == 2
    });
    let node = node(&upstream, Recording { success_sample: Some(0.0), ..Recording::default() });
    for (path, is_counted_only, ending) in [
        ("/200", true, Ending::Complete),
        ("/299", true, Ending::Complete),
        ("/304", false, Ending::Complete),
        ("/404", false, Ending::Complete),
        ("/500", false, Ending::Complete),
        ("/short", false, Ending::UpstreamBrokeOff),
    ] {
        let mut client = node.connect();
        client.write(&get(path, "connection: close"));
        let event = node.event();
        assert_eq!((event.is_counted_only, event.ending), (is_counted_only, ending), "{path}");
        assert_eq!(
            event.recorded.is_some(),
            !is_counted_only,
            "nothing is held for what is left out"
        );
    }
}
