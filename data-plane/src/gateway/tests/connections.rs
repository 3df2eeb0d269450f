//! Client connections: slow ones, idle ones, HTTP/2, swaps and the end of a node.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::node::{Node, Upstream, get, open_node, open_route};

fn slow(pause: u64) -> Upstream {
    Upstream::scripted(move |_, stream| {
        thread::sleep(Duration::from_millis(pause));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_ok()
    })
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| {
        settings.header_timeout = Duration::from_millis(300);
        settings.keep_alive_timeout = Duration::from_millis(300);
    });
    let heads = ["GET /p HTT", "GET /p HTTP/1.1\r\nhost: a\r\n", "P", "PRI", "POST"];
    for sent in [""].into_iter().chain(heads) {
        let mut client = node.connect();
        client.write(sent);
        let began = Instant::now();
        if !sent.is_empty() {
            let answer = client.read(false);
            assert_eq!(answer.status, 408, "{sent:?}");
            let event = node.event();
            assert_eq!((event.status.as_u16(), event.error), (408, Some("head_timeout")));
            if sent.starts_with("GET") {
                assert_eq!((event.method.as_str(), event.texts.path()), ("GET", &b"/p"[..]));
            }
        }
        assert!(client.is_closed(), "{sent:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{sent:?}");
    }
    let mut client = node.connect();
    assert_eq!(client.send(&get("/", "")).status, 200);
    let began = Instant::now();
    assert!(client.is_closed());
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_parked_connection_serves_on_and_ends_like_any_other() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| {
        settings.keep_alive_timeout = Duration::from_millis(4500);
    });
    let (mut client, mut other, mut third) = (node.connect(), node.connect(), node.connect());
    for client in [&mut client, &mut other, &mut third] {
        assert_eq!(client.send(&get("/", "")).status, 200);
    }
    // Longer than it takes to be parked.
    thread::sleep(Duration::from_millis(2800));
    assert_eq!(client.send(&get("/", "")).status, 200);
    client.write(&[get("/a", ""), get("/b", "")].concat());
    assert_eq!((client.read(false).status, client.read(false).status), (200, 200));
    // Parked or not, idle is idle.
    let began = Instant::now();
    assert!(other.is_closed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(third);
    let began = Instant::now();
    node.begin_stop();
    assert!(client.is_closed());
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn the_protocol_is_told_however_slowly_it_begins() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    for byte in get("/", "").replace("GET", "PROPFIND").chars() {
        client.write(&byte.to_string());
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.read(false).status, 200);
    let mut client = node.connect();
    for byte in ["P", "R", "I", " ", "* HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\u{4}\0\0\0\0\0"] {
        client.write(byte);
        thread::sleep(Duration::from_millis(5));
    }
    let mut frame = [0; 9];
    std::io::Read::read_exact(client.stream(), &mut frame).expect("settings");
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[test]
fn a_request_that_takes_longer_than_idle_may_is_let_be() {
    let upstream = slow(1500);
    let node = open_node(&upstream, |settings| {
        settings.header_timeout = Duration::from_millis(300);
        settings.keep_alive_timeout = Duration::from_millis(300);
    });
    assert_eq!(node.send(&get("/", "")).status, 200);
}

#[test]
fn a_stopping_node_finishes_what_is_under_way_and_takes_nothing_new() {
    let upstream = slow(500);
    let node = open_node(&upstream, |_| {});
    let mut idle = node.connect();
    assert_eq!(idle.send(&get("/", "")).status, 200);
    let mut half = node.connect();
    half.write("GET / HTT");
    assert_eq!(node.ops("/ready").status, 200);
    let mut busy = node.connect();
    busy.write(&get("/", ""));
    thread::sleep(Duration::from_millis(100));
    node.begin_stop();
    assert_eq!(node.ops("/ready").status, 503);
    assert!(idle.is_closed());
    let answer = busy.read(false);
    assert_eq!((answer.status, &*answer.body), (200, "hello"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(busy.is_closed());
    let began = Instant::now();
    let address = node.address;
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn the_grace_time_bounds_the_end() {
    let upstream = slow(10_000);
    let node = open_node(&upstream, |settings| settings.grace_time = Duration::from_millis(300));
    let mut busy = node.connect();
    busy.write(&get("/", ""));
    thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn swaps_close_no_connection_and_fail_no_request() {
    let upstream = Upstream::hello();
    let node = Node::start(vec![open_route(&upstream)], vec![]);
    let mut client = node.connect();
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for _ in 0..300 {
                node.load(vec![open_route(&upstream)], vec![]);
                thread::sleep(Duration::from_millis(1));
            }
        });
        while !swapping.is_finished() {
            assert_eq!(client.send(&get("/", "")).status, 200);
        }
    });
    assert_eq!(upstream.connections(), 1);
}

pub(super) type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// Talks HTTP/2 to a node, addressed as `a.b` and its port.
pub(super) fn over_http2(node: &Node, talk: impl AsyncFnOnce(&mut Sender, &str)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(node.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        tokio::spawn(connection);
        talk(&mut sender, &format!("a.b:{}", node.address.port())).await;
    });
}

pub(super) fn whole(size: usize) -> Upstream {
    Upstream::scripted(move |_, stream| {
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        stream.write_all(&vec![b'x'; size]).is_ok()
    })
}

#[test]
fn a_stream_whose_client_takes_nothing_is_ended_alone() {
    let upstream = whole(20_000_000);
    let node = open_node(&upstream, |settings| settings.body_timeout = Duration::from_millis(300));
    over_http2(&node, async |sender, authority| {
        let mut get = async |path: &str| {
            let request = http::Request::get(format!("http://{authority}{path}"));
            let answer = sender.send_request(request.body(Full::default()).expect("a request"));
            answer.await.expect("an answer").into_body()
        };
        // Its first frames fill the window, and nothing is read of them.
        let stuck = get("/stuck").await;
        let mut other = get("/other").await;
        let mut size = 0;
        while let Some(frame) = other.frame().await {
            size += frame.expect("a frame").into_data().map_or(0, |data| data.len());
            // Slow, and yet it moves.
            if size < 2_000_000 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert_eq!(size, 20_000_000);
        assert!(stuck.collect().await.is_err(), "the stream was reset");
    });
    let events = [node.event(), node.event()];
    let stuck = events.iter().find(|event| event.texts.path() == b"/stuck").expect("recorded");
    assert_eq!(stuck.error, Some("client_gone"));
    assert!(stuck.response_size < 20_000_000);
}

#[test]
fn an_idle_http2_connection_ends_though_its_client_answers_no_ping() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| {
        settings.keep_alive_timeout = Duration::from_millis(800);
        settings.header_timeout = Duration::from_millis(100);
    });
    let mut client = node.connect();
    // The preface and empty settings, then silence.
    client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0");
    let began = Instant::now();
    let mut said = Vec::new();
    drop(std::io::Read::read_to_end(client.stream(), &mut said));
    let lived = began.elapsed();
    assert!((Duration::from_millis(800)..Duration::from_secs(5)).contains(&lived), "{lived:?}");
}

#[test]
fn http2_without_tls_is_spoken_too() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    over_http2(&node, async |sender, authority| {
        for _ in 0..3 {
            let request = http::Request::post(format!("http://{authority}/x?y"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("content-length", "2")
                .header("content-length", "2")
                .body(Full::new(Bytes::from_static(b"hi")))
                .expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(&*body, b"hello");
        }
    });
    let received = upstream.last();
    assert_eq!(received.first, "POST /x?y HTTP/1.1");
    assert_eq!(received.body, "hi");
    assert_eq!(received.headers("content-length"), ["2"]);
    assert_eq!(received.headers("cookie"), ["a=1; b=2"]);
    let host = format!("a.b:{}", node.address.port());
    assert_eq!(received.header("x-forwarded-host"), Some(&*host));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let upstream = Upstream::scripted(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").expect("written");
        stream.write_all(&vec![b'x'; 100_000_000]).is_ok()
    });
    let node = open_node(&upstream, |settings| settings.body_timeout = Duration::from_millis(300));
    let mut client = node.connect();
    client.write(&get("/", ""));
    thread::sleep(Duration::from_millis(1500));
    let answer = client.read(false);
    assert!((1..50_000_000).contains(&answer.body.len()), "{}", answer.body.len());
}
