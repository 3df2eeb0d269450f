//! Answers, and the client's windows they pass through.

use std::io::Write as _;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::{
    super::{
        connections::{over_http2, whole},
        node::{Upstream, open_node},
    },
    client::{
        Client, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, NO_ERROR, WINDOW, frame,
        get, head, settings, window_update,
    },
};

#[test]
fn an_answer_waits_for_the_clients_windows() {
    let node = open_node(&whole(200_000), |_| {});
    let window = WINDOW as usize;
    let mut client = Client::start(&node);
    client.write(&get(1, "/"));
    assert_eq!(client.settle(100).size(1), window, "6.9.1");
    client.write(&window_update(1, 10_000));
    assert_eq!(client.settle(50).size(1), window, "6.9.1: the connection has no room");
    client.write(&window_update(0, 4_000));
    assert_eq!(client.settle(50).size(1), window + 4_000, "6.9.1");
    client.write(&[window_update(0, 500_000), window_update(1, 500_000)].concat());
    let seen = client.answer(1);
    assert_eq!((seen.size(1), seen.is_answered(1)), (200_000, true), "{seen:?}");
    assert!(seen.largest <= 1 << 14, "4.2: {} bytes in a frame", seen.largest);
}

/// Section 6.9.2.
#[test]
fn a_new_initial_window_holds_for_streams_that_are_open() {
    let node = open_node(&whole(200_000), |_| {});
    let initial = |size| settings(&[(INITIAL_WINDOW_SIZE, size)]);
    let mut client = Client::start_with(&node, &[(INITIAL_WINDOW_SIZE, 1000)]);
    client.write(&get(1, "/"));
    assert_eq!(client.settle(100).size(1), 1000, "as it began");
    for (name, frames, size) in [
        ("enlarged", initial(3000), 3000),
        ("made nothing: it is negative", initial(0), 3000),
        ("enlarged to less than nothing", window_update(1, 2000), 3000),
        ("enlarged past nothing", window_update(1, 1500), 3500),
        ("back again", initial(1000), 4500),
    ] {
        client.write(&frames);
        assert_eq!(client.settle(50).size(1), size, "{name}: {:?}", client.seen);
    }
}

#[test]
fn a_large_head_of_an_answer_is_cut_into_frames() {
    let value = "v".repeat(9_000);
    let upstream = Upstream::scripted(move |_, stream| {
        let lines = ["a", "b", "c", "d"].map(|name| format!("x-{name}: {value}\r\n")).concat();
        write!(stream, "HTTP/1.1 200 OK\r\n{lines}content-length: 5\r\n\r\nhello").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    client.write(&get(1, "/"));
    let seen = client.answer(1);
    assert_eq!((seen.status(1), seen.size(1)), (200, 5), "{seen:?}");
    assert!(seen.largest <= 1 << 14, "4.2: {} bytes in a frame", seen.largest);
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let upstream = Upstream::scripted(|request, stream| {
        let path = request.first.split(' ').nth(1).unwrap_or_default();
        let length = if path == "/204" { "" } else { "content-length: 1234\r\n" };
        write!(stream, "HTTP/1.1 {} X\r\n{length}\r\n", &path[1..]).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    for (stream, method, path, status) in
        [(1, "HEAD", "/200", 200), (3, "GET", "/204", 204), (5, "GET", "/304", 304)]
    {
        client.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(method, path, &[])));
        let seen = client.answer(stream);
        let answer = seen.answers.get(&stream).map(|answer| (answer.status, answer.ended_by));
        assert_eq!(answer, Some((status, Some(HEADERS))), "{path}: {seen:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    for (name, answer) in [
        ("less than its length", "content-length: 10\r\n\r\nhello"),
        ("half a chunk", "transfer-encoding: chunked\r\n\r\na\r\nhello"),
        ("no last chunk", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ] {
        let upstream = Upstream::scripted(move |_, stream| {
            drop(write!(stream, "HTTP/1.1 200 OK\r\n{answer}"));
            false
        });
        let node = open_node(&upstream, |_| {});
        let mut client = Client::start(&node);
        client.write(&get(1, "/"));
        let seen = client.answer(1);
        let code = seen.resets.get(&1).copied().unwrap_or(NO_ERROR);
        assert!(!seen.is_answered(1) && code != NO_ERROR, "8.1 {name}: {seen:?}");
        client.write(&get(3, "/"));
        let seen = client.answer(3);
        assert!(seen.has_ended(3) && seen.error().is_none(), "the connection goes on: {seen:?}");
    }
}

/// Section 8.2.2, and 8.2.1: names are in lower case, whatever the upstream wrote.
#[test]
fn answers_hold_what_is_the_clients_and_nothing_of_the_upstreams_connection() {
    let upstream = Upstream::scripted(|_, stream| {
        let head = "HTTP/1.1 404 Nothing Here\r\nX-Odd-CASE: 1\r\nSet-Cookie: a=1\r\n\
                    Set-Cookie: b=2\r\nConnection: close, x-inner\r\nX-Inner: 1\r\n\
                    Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\
                    Trailer: x-trailer\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n";
        drop(stream.write_all(head.as_bytes()));
        false
    });
    let node = open_node(&upstream, |_| {});
    over_http2(&node, async |sender, authority| {
        for _ in 0..2 {
            let request = http::Request::get(format!("http://{authority}/"));
            let request = request.body(Full::<Bytes>::default()).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            let headers = answer.headers().clone();
            assert_eq!(
                (answer.status().as_u16(), headers["x-odd-case"].as_bytes()),
                (404, &b"1"[..])
            );
            let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
            assert_eq!(cookies, ["a=1", "b=2"]);
            assert_eq!(headers.get_all("date").iter().count(), 1);
            for gone in ["connection", "x-inner", "keep-alive", "upgrade", "transfer-encoding"] {
                assert!(!headers.contains_key(gone), "{gone}");
            }
            let body = answer.into_body().collect().await.expect("a body");
            assert!(body.trailers().is_none());
            assert_eq!(body.to_bytes(), "hello");
        }
    });
}
