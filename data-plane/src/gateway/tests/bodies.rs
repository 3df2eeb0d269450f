//! Bodies stream through, both ways, within bounds.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use super::node::{Node, Upstream, get, open_node, open_route};

#[test]
fn an_answer_streams_while_it_is_made() {
    let upstream = Upstream::scripted(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").expect("written");
        thread::sleep(Duration::from_millis(400));
        stream.write_all(b"later").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    let began = Instant::now();
    client.write(&get("/", ""));
    let mut seen = Vec::new();
    while !seen.ends_with(b"first") {
        let mut byte = [0];
        client.stream().read_exact(&mut byte).expect("a byte");
        seen.extend(byte);
    }
    assert!(began.elapsed() < Duration::from_millis(300));
    let mut rest = [0; 5];
    client.stream().read_exact(&mut rest).expect("the rest");
    assert_eq!(&rest, b"later");
}

#[test]
fn large_bodies_pass_both_ways() {
    const SIZE: usize = 32 << 20;
    let upstream = Upstream::scripted(|request, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len())
            .expect("written");
        stream.write_all(request.body.as_bytes()).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let body = "x".repeat(SIZE);
    let answer =
        node.send(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n{body}"));
    assert_eq!((answer.status, answer.body.len()), (200, SIZE));
}

#[test]
fn a_body_over_the_bound_is_refused_with_413() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| settings.max_body_size = Some(4));
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (request, status) in [
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nfour".to_owned(), 200),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfives".to_owned(), 413),
        (format!("{chunked}4\r\nfour\r\n0\r\n\r\n"), 200),
        (format!("{chunked}4\r\nfour\r\n1\r\n!\r\n0\r\n\r\n"), 413),
    ] {
        assert_eq!(node.send(&request).status, status, "{request:?}");
    }
}

#[test]
fn a_client_that_stalls_in_its_body_gets_408() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| settings.body_timeout = Duration::from_millis(300));
    let began = Instant::now();
    let answer = node.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\npart");
    assert_eq!(answer.status, 408);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_answer_that_stalls_or_breaks_off_ends_the_connection() {
    for pause in [0, 2000] {
        let upstream = Upstream::scripted(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").expect("written");
            thread::sleep(Duration::from_millis(pause));
            false
        });
        let mut route = open_route(&upstream);
        route.timeout = Some(0.3);
        let node = Node::start(vec![route], vec![]);
        let mut client = node.connect();
        let began = Instant::now();
        let answer = client.send(&get("/", ""));
        assert_eq!((answer.status, &*answer.body), (200, "first"));
        assert!(client.is_closed());
        assert!(began.elapsed() < Duration::from_millis(1500));
    }
}

#[test]
fn answers_to_head_and_without_body_keep_their_headers() {
    let upstream = Upstream::scripted(|request, stream| {
        let answer = if request.first.starts_with("HEAD") {
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"
        } else {
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    for _ in 0..3 {
        let head = client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((head.status, head.header("content-length")), (200, Some("1234")));
        let unchanged = client.send(&get("/", ""));
        assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some("\"x\"")));
    }
    assert_eq!(upstream.connections(), 1);
}

/// Takes connections, reads the first bytes of each, and does nothing more but say `answer`.
pub(super) fn unreading(answer: &'static str) -> fastgate::admin::v1::Target {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(answer.as_bytes()));
            held.push(stream);
        }
    });
    fastgate::admin::v1::Target { url, ..Default::default() }
}

#[test]
fn an_upstream_that_stops_reading_ends_as_504_and_one_that_answers_early_is_heard() {
    let early = "HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nenough";
    for (answer, status) in [("", 504), (early, 413)] {
        let mut route = open_route(&Upstream::hello());
        route.timeout = Some(0.5);
        route.targets = vec![unreading(answer)];
        let node = Node::start(vec![route], vec![]);
        let mut client = node.connect();
        let mut writing = client.stream().get_ref().try_clone().expect("a second handle");
        thread::spawn(move || {
            drop(
                writing
                    .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n"),
            );
            drop(writing.write_all(&vec![b'x'; 100_000_000]));
        });
        let began = Instant::now();
        assert_eq!(client.read(false).status, status);
        // Neither end closes, and yet nothing of the exchange is left.
        node.stop();
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_client_that_sends_a_body_nobody_reads_still_gets_its_answer() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |settings| settings.max_body_size = Some(1000));
    for path in ["/", "/a%2fb"] {
        let size = 20_000_000;
        let mut client = node.connect();
        client.write(&format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"));
        for _ in 0..size / 100_000 {
            client.write(&"x".repeat(100_000));
        }
        let answer = client.read(false);
        let status = if path == "/" { 413 } else { 400 };
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains("request_id"), "{path}");
    }
}
