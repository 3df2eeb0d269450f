//! What stands between two requests of an HTTP/1.1 connection: rests of bodies, empty lines.

use std::{
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use super::{
    http1::echo,
    node::{get, open_node},
};

/// How much of a body in chunks is left, nobody says: what has come of it is looked at.
#[test]
fn a_refused_request_in_chunks_leaves_the_connection_open_where_its_end_is_near() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let head = "POST /a%2fb HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = node.connect();
    for (with_head, behind) in [
        ("5\r\nhello\r\n0\r\n\r\n", ""),
        ("0\r\nt: 1\r\n\r\n", ""),
        ("5\r\nhello\r\n", "0\r\n\r\n"),
        ("5\r\nhe", "llo\r\n0\r\n\r\n"),
        ("", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        client.write(&format!("{head}{with_head}"));
        thread::sleep(Duration::from_millis(30));
        client.write(behind);
        let answer = client.read(false);
        assert_eq!((answer.status, answer.header("connection")), (400, None), "{with_head:?}");
        assert_eq!(client.send(&get("/next", "")).body, "/next ", "{with_head:?}");
    }
    // What is broken, or long, is not waited for.
    for broken in ["x\r\n", "5\r\nhello0\r\n", "fffff\r\nhello", "fffff;x=", "fffff\r"] {
        let mut client = node.connect();
        client.write(&format!("{head}{broken}"));
        assert_eq!(client.read(false).header("connection"), Some("close"), "{broken:?}");
    }
    // Nor is one that turns out to be long, or does not come: nothing behind it is read.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    for rest in [chunk.repeat(100), String::new()] {
        let mut client = node.connect();
        client.write(&format!("{head}{chunk}"));
        assert_eq!(client.read(false).status, 400);
        client.write(&rest);
        client.write(&get("/smuggled", ""));
        assert!(client.is_closed());
    }
    assert!(upstream.received().iter().all(|request| request.first == "GET /next HTTP/1.1"));
}

/// RFC 9112 section 2.2: some clients send an empty line behind a body.
#[test]
fn empty_lines_between_requests_are_no_request() {
    let node = open_node(&echo(), |settings| {
        settings.header_timeout = Duration::from_millis(300);
        settings.keep_alive_timeout = Duration::from_millis(1500);
    });
    let post = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    for pieces in [&["\r\n"][..], &["\r", "\n"], &["\r\n\r\n", "\n", "\r"]] {
        for first in ["", post] {
            let mut client = node.connect();
            client.write(&format!("{first}{}", pieces[0]));
            if !first.is_empty() {
                assert_eq!(client.read(false).body, "/b hi");
                assert_eq!(node.event().status, 200);
            }
            for piece in &pieces[1..] {
                thread::sleep(Duration::from_millis(20));
                client.write(piece);
            }
            let began = Instant::now();
            let mut said = String::new();
            client.stream().read_to_string(&mut said).expect("a quiet end");
            assert_eq!(said, "", "{pieces:?} {first:?}");
            assert!(began.elapsed() > Duration::from_millis(1000), "{:?}", began.elapsed());
            assert!(node.has_no_event(), "{pieces:?} {first:?}");
        }
    }
    let mut client = node.connect();
    client.write(&format!("{post}\r\n"));
    assert_eq!(client.read(false).body, "/b hi");
    thread::sleep(Duration::from_millis(600));
    for empty in ["", "\r\n"] {
        assert_eq!(client.send(&format!("{empty}{}", get("/c", ""))).body, "/c ");
    }
    // A CR that begins no empty line is refused as ever.
    assert_eq!(client.send(&format!("\r{}", get("/d", ""))).status, 400);
}
