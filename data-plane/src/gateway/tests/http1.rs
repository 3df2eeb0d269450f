//! HTTP/1.1 with clients and upstreams, where it is more than one request and one answer.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::node::{Node, Upstream, get, key, open_node, open_route, route};

/// Says which path it was asked for, and what it was sent.
pub(super) fn echo() -> Upstream {
    Upstream::scripted(|request, stream| {
        let path = request.first.split(' ').nth(1).unwrap_or_default();
        let said = format!("{path} {}", request.body);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).is_ok()
    })
}

#[test]
fn requests_are_read_alike_however_they_are_cut() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let requests = [
        get("/a", "x-long: 0123456789"),
        "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "\r\nGET /c HTTP/1.1\nhost: a\n\n".to_owned(),
        "POST /d HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\nt: 1\r\n\r\n".to_owned(),
        get("/e", ""),
    ];
    let stream = requests.concat();
    for piece in [1, 2, 3, 5, 17, 64, stream.len()] {
        let mut client = node.connect();
        client.stream().get_ref().set_nodelay(true).expect("a socket");
        for part in stream.as_bytes().chunks(piece) {
            client.write(str::from_utf8(part).expect("text"));
            // So that the pieces do not come together again on their way.
            thread::sleep(Duration::from_micros(if piece < stream.len() { 300 } else { 0 }));
        }
        for said in ["/a ", "/b hello", "/c ", "/d hi!", "/e "] {
            let answer = client.read(false);
            assert_eq!((answer.status, &*answer.body), (200, said), "{piece}");
        }
    }
}

#[test]
fn a_body_that_breaks_its_framing_ends_the_connection_before_the_next_request() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let smuggled = get("/smuggled", "");
    for body in [
        "2\r\nhi\r\n0\r\nt: 1\n\r\n",
        "2\r\nhi\r\n0\r\n\n",
        "2\nhi\r\n0\r\n\r\n",
        "2\r\nhix0\r\n\r\n",
        "fffffffffffffffff\r\nhi",
    ] {
        let mut client = node.connect();
        client.write(&format!(
            "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}{smuggled}"
        ));
        assert_eq!(client.read(false).status, 400, "{body:?}");
        let mut rest = String::new();
        drop(client.stream().read_to_string(&mut rest));
        assert!(!rest.contains("smuggled"), "{body:?}: {rest}");
    }
    assert!(upstream.received().iter().all(|request| !request.first.contains("smuggled")));
}

#[test]
fn a_client_that_waits_is_asked_for_its_body_once_it_is_admitted() {
    let upstream = echo();
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/", &upstream)], vec![record]);
    let head = |key: &str| {
        format!(
            "POST /x HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: 2\r\n\
             expect: 100-continue\r\n\r\n"
        )
    };
    let mut client = node.connect();
    client.write(&head(&secret));
    let mut asked = [0; 25];
    client.stream().read_exact(&mut asked).expect("to be asked");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hi");
    let answer = client.read(false);
    assert_eq!((answer.status, &*answer.body), (200, "/x hi"));
    // One that is refused is not asked, and may send its body or not: nothing after it is read.
    client.write(&head("fg_wrong"));
    assert_eq!(client.read(false).status, 401);
    assert!(client.is_closed());
}

#[test]
fn a_refused_request_with_a_short_body_leaves_the_connection_open() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    for pause in [0, 30] {
        client.write("POST /a%2fb HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
        thread::sleep(Duration::from_millis(pause));
        client.write("hello");
        let answer = client.read(false);
        assert_eq!((answer.status, answer.header("connection")), (400, None), "{pause}");
    }
    assert_eq!(client.send(&get("/next", "")).body, "/next ");
    client.write("POST /a%2fb HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\n\r\n");
    assert_eq!(client.read(false).header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn http10_clients_are_answered_as_they_understand() {
    let chunked = Upstream::scripted(|_, stream| {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let node = open_node(&chunked, |_| {});
    let mut client = node.connect();
    let answer = client.send("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!((answer.status, &*answer.body), (200, "hello"));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(client.is_closed());

    let node = open_node(&echo(), |_| {});
    let mut client = node.connect();
    let answer = client.send("GET /1 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!((&*answer.body, answer.header("connection")), ("/1 ", Some("keep-alive")));
    let answer = client.send("GET /2 HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!((&*answer.body, answer.header("connection")), ("/2 ", Some("close")));
    assert!(client.is_closed());
}

#[test]
fn answers_of_every_framing_arrive_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 \r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: t\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nt: 1\r\n\r\n",
    ] {
        let upstream = Upstream::scripted(move |_, stream| {
            for part in answer.as_bytes().chunks(7) {
                drop(stream.write_all(part));
                thread::sleep(Duration::from_millis(1));
            }
            false
        });
        let node = open_node(&upstream, |_| {});
        let mut client = node.connect();
        for _ in 0..2 {
            let got = client.send(&get("/", ""));
            assert_eq!((got.status, &*got.body), (200, "hello"), "{answer:?}");
            for gone in ["link", "trailer", "connection"] {
                assert_eq!(got.header(gone), None, "{gone} of {answer:?}");
            }
            assert!(got.header("date").is_some(), "{answer:?}");
        }
    }
}

#[test]
fn a_switch_of_protocols_nobody_asked_for_is_refused() {
    let upstream = Upstream::scripted(|_, stream| {
        stream.write_all(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\nraw").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    assert_eq!(node.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").status, 502);
}

#[test]
fn names_of_headers_stay_as_they_were_written() {
    let upstream = Upstream::scripted(|_, stream| {
        let head = "HTTP/1.1 404 Nothing Here\r\nX-Odd-CASE: 1\r\nDate: today\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    client.write(&get("/", "X-sent-CASE: 1\r\nconnection: close"));
    let mut answer = String::new();
    client.stream().read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404 Nothing Here\r\nX-Odd-CASE: 1\r\n"), "{answer}");
    assert_eq!(answer.to_lowercase().matches("\r\ndate: ").count(), 1, "{answer}");
    assert!(upstream.last().header("x-sent-case").is_some());
}

#[test]
fn a_client_that_says_its_last_before_the_answer_counts_as_gone() {
    let upstream = Upstream::scripted(|_, stream| {
        thread::sleep(Duration::from_millis(300));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    client.write(&get("/", ""));
    client.stream().get_ref().shutdown(Shutdown::Write).expect("half closed");
    let event = node.event();
    let noted = (event.status.as_u16(), event.error, event.ttfb);
    assert_eq!(noted, (499, Some("client_gone"), Duration::ZERO));
}

#[test]
fn much_sent_ahead_of_an_answer_waits_and_is_not_lost() {
    let upstream = Upstream::scripted(|request, stream| {
        if request.first.contains("/slow") {
            thread::sleep(Duration::from_millis(200));
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    let mut client = node.connect();
    let mut writing = client.stream().get_ref().try_clone().expect("a second handle");
    let ahead = 3000;
    let writer = thread::spawn(move || {
        let requests = get("/next", "x-filler: 0123456789012345678901234567890123456789");
        drop(writing.write_all(get("/slow", "").as_bytes()));
        for _ in 0..ahead {
            drop(writing.write_all(requests.as_bytes()));
        }
    });
    for number in 0..=ahead {
        assert_eq!(client.read(false).status, 200, "{number}");
    }
    writer.join().expect("written");
}

#[test]
fn an_upload_and_its_answer_pass_each_other() {
    // Answers each piece as it comes, long before the end of the request.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 4096];
        let mut has_answered = false;
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            counted.fetch_add(read, SeqCst);
            if !has_answered {
                has_answered = true;
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
            }
            drop(stream.write_all(b"4\r\nseen\r\n"));
            if bytes[..read].ends_with(b"0\r\n\r\n") {
                drop(stream.write_all(b"0\r\n\r\n"));
            }
        }
    });
    let mut route = open_route(&Upstream::hello());
    route.targets = vec![fastgate::admin::v1::Target { url, ..Default::default() }];
    let node = Node::start(vec![route], vec![]);
    let mut client = node.connect();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut answer = Vec::new();
    for round in 1..5 {
        client.write("3\r\nabc\r\n");
        while answer.windows(4).filter(|four| four == b"seen").count() < round {
            let mut byte = [0];
            client.stream().read_exact(&mut byte).expect("an answer while the request goes on");
            answer.extend(byte);
        }
    }
    client.write("0\r\n\r\n");
    let mut rest = String::new();
    while !rest.ends_with("0\r\n\r\n") {
        let mut byte = [0];
        client.stream().read_exact(&mut byte).expect("the end");
        rest.push(byte[0].into());
    }
    assert_eq!(node.event().request_size, 12);
}

#[test]
fn a_body_whose_end_comes_late_does_not_stop_the_clock() {
    let upstream = Upstream::scripted(|_, _| {
        thread::sleep(Duration::from_secs(5));
        false
    });
    let mut route = open_route(&upstream);
    route.timeout = Some(0.4);
    let node = Node::start(vec![route], vec![]);
    let mut client = node.connect();
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
    thread::sleep(Duration::from_millis(150));
    client.write("0\r\n\r\n");
    assert_eq!(client.read(false).status, 504);
}

/// A task that has done much at once is told to wait of every socket, ready or not.
#[test]
fn a_pooled_connection_is_looked_at_however_much_its_task_has_done() {
    for left_behind in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"] {
        let upstream = Upstream::scripted(move |_, stream| {
            let good = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
            drop(stream.write_all(good.as_bytes()));
            thread::sleep(Duration::from_millis(20));
            drop(stream.write_all(left_behind.as_bytes()));
            !left_behind.is_empty()
        });
        let mut only = route("only", "/up", &upstream);
        only.auth_required = Some(false);
        only.retry_count = Some(0);
        let node = Node::start(vec![only], vec![]);
        let post = "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
        for _ in 0..4 {
            assert_eq!(node.send(post).body, "good");
            thread::sleep(Duration::from_millis(60));
            let mut client = node.connect();
            client.write(&[get("/none", "").repeat(127), post.to_owned()].concat());
            for _ in 0..127 {
                assert_eq!(client.read(false).status, 404);
            }
            let answer = client.read(false);
            assert_eq!((answer.status, &*answer.body), (200, "good"), "{left_behind:?}");
            // Until what is left behind is there.
            thread::sleep(Duration::from_millis(60));
        }
    }
}

#[test]
fn an_answer_that_comes_first_leaves_a_waiting_client_unasked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        drop(stream.read(&mut [0; 1024]));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"));
        thread::sleep(Duration::from_millis(200));
        drop(stream.write_all(b"world"));
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let mut route = open_route(&Upstream::hello());
    route.targets = vec![fastgate::admin::v1::Target { url, ..Default::default() }];
    let node = Node::start(vec![route], vec![]);
    let mut client = node.connect();
    let begun = "x".repeat(50_000);
    client.write(&format!(
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 500000\r\n\r\n{begun}"
    ));
    let mut answer = String::new();
    drop(client.stream().read_to_string(&mut answer));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("helloworld"), "{answer}");
}

#[test]
fn an_answer_that_was_not_taken_is_recorded_as_such() {
    let upstream = Upstream::scripted(|_, stream| {
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n"));
        stream.write_all(&vec![b'x'; 50_000_000]).is_ok()
    });
    let node = open_node(&upstream, |settings| settings.body_timeout = Duration::from_millis(300));
    let mut client = node.connect();
    client.write(&get("/", ""));
    let event = node.event();
    assert_eq!((event.status.as_u16(), event.error), (200, Some("client_gone")));
}

#[test]
fn no_answer_tells_the_length_of_a_body_it_can_not_have() {
    let upstream = Upstream::scripted(|_, stream| {
        stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").is_ok()
    });
    let node = open_node(&upstream, |_| {});
    for request in [&*get("/", ""), "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let answer = node.send(request);
        assert_eq!((answer.status, answer.header("content-length")), (204, None), "{request}");
    }
}

#[test]
fn interim_answers_without_end_are_no_answer() {
    let upstream = Upstream::scripted(|_, stream| {
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
        false
    });
    let mut route = open_route(&upstream);
    route.timeout = Some(20.0);
    let node = Node::start(vec![route], vec![]);
    assert_eq!(node.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").status, 502);
}
