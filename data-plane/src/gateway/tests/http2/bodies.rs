//! Bodies of requests and answers, and the windows they pass through.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::{
    super::{
        bodies::unreading,
        connections::over_http2,
        http1::echo,
        node::{Node, Upstream, key, open_node, open_route, route},
    },
    AFTER, assert_none,
    client::{
        CANCEL, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Field, HEADERS, NO_ERROR,
        PADDED, PRIORITIZED, PROTOCOL_ERROR, block, frame, get, head, post, reset, window_update,
    },
};

fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, payload)
}

fn trailers(flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, &block(fields))
}

/// Section 8.1.1: a request whose length is another than that of its data is malformed.
#[test]
fn bodies_that_break_the_rules_end_their_stream_alone() {
    const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nhost: a.b\r\n\r\n";
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let (five, none): (&[Field<'_>], &[Field<'_>]) = (&[("content-length", "5")], &[]);
    let fields: &[Field<'_>] = &[("x-trailer", "1")];
    let mut wrong = Vec::new();
    for (name, more, frames) in [
        ("8.1.1 too little", five, data(END_STREAM, b"GET ")),
        ("8.1.1 too little, in two", five, [data(0, b"GET"), data(END_STREAM, &[])].concat()),
        ("8.1.1 nothing", five, data(END_STREAM, &[])),
        ("8.1.1 nothing but trailers", five, trailers(END_STREAM, fields)),
        ("8.1.1 more", five, data(END_STREAM, &[b"hello", SMUGGLED].concat())),
        ("8.1.1 more, in two", five, [data(0, b"hello"), data(END_STREAM, SMUGGLED)].concat()),
        ("8.1.1 more than nothing", &[("content-length", "0")], data(END_STREAM, SMUGGLED)),
        ("8.1 trailers that go on", none, [data(0, b"hi"), trailers(0, fields)].concat()),
        ("8.1 a pseudo-header behind", none, trailers(END_STREAM, &[(":path", "/smuggled")])),
        ("8.2.1 a trailer in upper case", none, trailers(END_STREAM, &[("X-Upper", "1")])),
        ("8.2.1 a trailer with LF", none, trailers(END_STREAM, &[("x", "a\nb")])),
    ] {
        let before = upstream.received().len();
        let mut client = Client::start(&node);
        client.write(&[post(1, "/bad", more), frames].concat());
        client.answer(1);
        client.write(&get(AFTER, "/after"));
        let seen = client.answer(AFTER);
        let is_refused = seen.status(1) == 400 || seen.resets.get(&1) == Some(&PROTOCOL_ERROR);
        let received = upstream.received().split_off(before);
        // What came of it before it was found out may have been forwarded, and is cut off there.
        let is_cut = received.iter().all(|request| {
            let length = request.header("content-length").and_then(|text| text.parse().ok());
            let is_whole = length.is_none_or(|length: usize| request.body.len() == length);
            let is_as_sent = name.contains("more") && is_whole;
            let is_after = request.first == "GET /after HTTP/1.1";
            is_after || is_as_sent || !is_whole || request.header("content-length").is_none()
        });
        let is_smuggled =
            received.iter().any(|request| format!("{request:?}").contains("smuggled"));
        if !is_refused || seen.status(AFTER) != 200 || !is_cut || is_smuggled {
            wrong.push(format!("{name}: {seen:?}, {received:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn bodies_of_every_form_arrive_whole() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let priority = [0, 0, 0, 0, 16];
    let padded = |flags, text: &[u8]| data(PADDED | flags, &[&[3], text, &[0; 3]].concat());
    let head = head("POST", "/x", &[]);
    let padded_head = [&[2], &priority[..], &head, &[0; 2]].concat();
    let five: &[Field<'_>] = &[("content-length", "5")];
    for (name, frames) in [
        ("6.1 one frame", [post(1, "/x", &[]), data(END_STREAM, b"hello")].concat()),
        ("6.1 with its length", [post(1, "/x", five), data(END_STREAM, b"hello")].concat()),
        (
            "6.1 many frames, some empty",
            [post(1, "/x", five), data(0, b"he"), data(0, &[]), data(0, b"llo"), data(1, &[])]
                .concat(),
        ),
        (
            "6.1 padding",
            [post(1, "/x", five), padded(0, b"hel"), padded(0, &[]), padded(1, b"lo")].concat(),
        ),
        (
            "6.2 padding and a priority of the head",
            [
                frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, &padded_head),
                data(END_STREAM, b"hello"),
            ]
            .concat(),
        ),
        (
            "8.1 trailers",
            [post(1, "/x", &[]), data(0, b"hello"), trailers(END_STREAM, &[("x-trailer", "1")])]
                .concat(),
        ),
        (
            "8.1 trailers behind a length, in two frames",
            [
                post(1, "/x", five),
                data(0, b"hello"),
                frame(HEADERS, END_STREAM, 1, &block(&[("x-trailer", "1")])),
                frame(CONTINUATION, END_HEADERS, 1, &block(&[("x-b", "1")])),
            ]
            .concat(),
        ),
    ] {
        let mut client = Client::start(&node);
        client.write(&frames);
        let seen = client.answer(1);
        assert_eq!(
            seen.answers.get(&1).map(|answer| &*answer.text),
            Some("/x hello"),
            "{name}: {seen:?}"
        );
        let received = upstream.last();
        assert_eq!((&*received.body, received.header("x-trailer")), ("hello", None), "{name}");
    }
}

#[test]
fn windows_are_renewed_while_a_body_is_taken() {
    let upstream = Upstream::scripted(|request, stream| {
        let said = request.body.len().to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).is_ok()
    });
    let node = open_node(&upstream, |_| {});
    over_http2(&node, async |sender, authority| {
        for _ in 0..2 {
            let request = http::Request::post(format!("http://{authority}/x"));
            let body = Full::new(Bytes::from(vec![b'x'; 3 << 20]));
            let answer = sender.send_request(request.body(body).expect("a request")).await;
            let answer = answer.expect("an answer").into_body().collect().await;
            assert_eq!(answer.expect("a body").to_bytes(), "3145728");
        }
    });
    // Padding counts as well (section 6.9.1).
    let mut client = Client::start(&node);
    client.write(&post(1, "/", &[]));
    let padded = [&[255][..], &[b'x'; 500], &[0; 255]].concat();
    for number in 1..=6000 {
        let flags = if number == 6000 { PADDED | END_STREAM } else { PADDED };
        let is_taken = client.data(1, flags, &padded);
        assert!(is_taken, "{number}: {:?}", client.settle(10));
    }
    let seen = client.answer(1);
    assert_eq!(seen.answers[&1].text, "3000000", "{seen:?}");
}

/// Section 5.2.2: streams may hold back their own windows, and not that of the connection.
#[test]
fn bodies_nobody_reads_stop_no_other_stream() {
    let upstream = echo();
    let mut stuck = route("stuck", "/stuck", &upstream);
    stuck.auth_required = Some(false);
    stuck.targets = vec![unreading("")];
    let node = Node::start(vec![open_route(&upstream), stuck], vec![]);
    let mut client = Client::start(&node);
    client.write(&window_update(0, 1 << 30));
    client.waits(300);
    for stream in [1, 3, 5] {
        client.write(&post(stream, "/stuck", &[]));
        let mut pieces = 0;
        while client.data(stream, 0, &[0; 16_000]) {
            pieces += 1;
            assert!(pieces < 4000, "it is kept back some time");
        }
    }
    client.waits(3000);
    for stream in [7, 9] {
        client.write(&post(stream, "/other", &[]));
        for number in 1..=100 {
            let flags = if number == 100 { END_STREAM } else { 0 };
            let is_taken = client.data(stream, flags, &[b'x'; 10_000]);
            assert!(is_taken, "no room for {number}: {:?}", client.seen);
        }
        client.write(&window_update(stream, 1 << 30));
        let seen = client.answer(stream);
        assert_eq!((seen.status(stream), seen.size(stream)), (200, 1_000_007), "{seen:?}");
    }
}

/// Section 8.1: the rest of such a request may be asked to be left out, without an error.
#[test]
fn an_answer_may_come_before_the_end_of_its_request() {
    let upstream = Upstream::hello();
    let early = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly";
    let mut hasty = open_route(&upstream);
    hasty.targets = vec![unreading(early)];
    let asked = |settings: &mut crate::Settings| settings.max_body_size = Some(50_000);
    let small = open_node(&upstream, asked);
    let large: &[Field<'_>] = &[("content-length", "100000")];
    for (name, node, path, more, status) in [
        ("told to be too large", &small, "/", large, 413),
        ("found to be too large", &small, "/", &[], 413),
        ("refused", &small, "/a%2fb", large, 400),
        ("answered", &Node::start(vec![hasty], vec![]), "/", large, 200),
    ] {
        let mut client = Client::start(node);
        client.write(&post(1, path, more));
        for _ in 0..6 {
            client.data(1, 0, &[b'x'; 10_000]);
        }
        client.until(|seen| seen.status(1) != 0 && seen.has_ended(1));
        let code = client.settle(50).resets.get(&1).copied().unwrap_or(NO_ERROR);
        assert_eq!((client.seen.status(1), code), (status, NO_ERROR), "{name}: {:?}", client.seen);
        assert!(client.seen.is_answered(1), "{name}: {:?}", client.seen);
        if !client.seen.resets.contains_key(&1) {
            assert!(client.data(1, END_STREAM, b"x"), "{name}: {:?}", client.seen);
        }
        client.write(&get(AFTER, "/"));
        let seen = client.answer(AFTER);
        assert_eq!(seen.status(AFTER), 200, "{name}: {seen:?}");
    }
}

/// Many clients say in a frame of its own that this was all.
#[test]
fn a_body_that_came_whole_is_not_broken_off_for_want_of_a_last_word() {
    let upstream = echo();
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    let five: &[Field<'_>] = &[("content-length", "5")];
    for last in [data(END_STREAM, &[]), trailers(END_STREAM, &[("x-trailer", "1")])] {
        client.write(&[post(1, "/x", five), data(0, b"hello")].concat());
        client.answer(1);
        client.settle(50);
        client.write(&last);
        let seen = client.settle(50);
        assert_eq!(seen.answers[&1].text, "/x hello", "{seen:?}");
        assert!(seen.resets.is_empty() && seen.error().is_none(), "{seen:?}");
        client = Client::start(&node);
    }
}

/// curl 7.88 loses an answer that it reads together with what tells it to stop.
#[test]
fn a_request_that_is_about_to_end_is_not_broken_off_behind_its_answer() {
    let node = Node::start(vec![route("r1", "/", &echo())], vec![]);
    let (five, none): (&[Field<'_>], &[Field<'_>]) = (&[("content-length", "5")], &[]);
    let last = data(END_STREAM, b"hello");
    let behind = trailers(END_STREAM, &[("x-trailer", "1")]);
    for (name, more, frames) in [
        ("with its length", five, vec![last.clone()]),
        ("without", none, vec![last]),
        ("in two", five, vec![data(0, b"he"), data(END_STREAM, b"llo")]),
        ("in two, without", none, vec![data(0, b"he"), data(END_STREAM, b"llo")]),
        ("with trailers", none, vec![data(0, b"hello"), behind]),
        ("without a last word", five, vec![data(0, b"hello")]),
    ] {
        let mut client = Client::start(&node);
        client.write(&post(1, "/x", more));
        client.answer(1);
        for frame in frames {
            client.settle(30);
            client.write(&frame);
        }
        // Longer than a client is waited for.
        let seen = client.settle(2500);
        assert_eq!((seen.status(1), seen.resets.get(&1)), (401, None), "{name}: {seen:?}");
        client.write(&get(AFTER, "/"));
        let seen = client.answer(AFTER);
        assert_eq!((seen.status(AFTER), seen.resets.len()), (401, 0), "{name}: {seen:?}");
    }
}

#[test]
fn a_request_that_does_not_end_behind_its_answer_is_broken_off() {
    let node = Node::start(vec![route("r1", "/", &echo())], vec![]);
    let (five, none): (&[Field<'_>], &[Field<'_>]) = (&[("content-length", "5")], &[]);
    let large: &[Field<'_>] = &[("content-length", "100000")];
    let waits: &[Field<'_>] = &[("content-length", "5"), ("expect", "100-continue")];
    for (name, more, sent, within) in [
        ("that waits", waits, 0, 1000),
        ("that is large", large, 0, 1000),
        ("that turns out to be large", none, 20_000, 1000),
        ("that stalls", none, 1000, 3500),
        ("that stalls before its length", five, 0, 3500),
    ] {
        let mut client = Client::start(&node);
        client.write(&post(1, "/x", more));
        client.answer(1);
        for _ in 0..sent / 1000 {
            client.data(1, 0, &[b'x'; 1000]);
        }
        client.waits(within);
        let seen = client.until(|seen| seen.resets.contains_key(&1));
        let code = seen.resets.get(&1).copied();
        assert_eq!((seen.status(1), code), (401, Some(NO_ERROR)), "{name}: {seen:?}");
        client.write(&get(AFTER, "/"));
        assert_eq!(client.answer(AFTER).status(AFTER), 401, "{name}");
    }
}

/// RFC 9110 section 10.1.1.
#[test]
fn a_client_that_waits_to_be_asked_is_asked_or_answered() {
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/", &echo())], vec![record]);
    let waiting = |stream, secret| {
        let more = [("expect", "100-continue"), ("x-api-key", secret), ("content-length", "2")];
        post(stream, "/x", &more)
    };
    let mut client = Client::start(&node);
    client.write(&waiting(1, "fg_wrong"));
    let seen = client.answer(1);
    assert_eq!((seen.status(1), &*seen.answers[&1].interim), (401, &[][..]), "{seen:?}");
    // One that does not wait for long.
    client.write(&waiting(3, &secret));
    client.settle(100);
    client.data(3, END_STREAM, b"hi");
    let seen = client.answer(3);
    assert_eq!(&*seen.answers[&3].text, "/x hi", "{seen:?}");
    // One that waits for as long as it takes.
    client.write(&waiting(5, &secret));
    client.waits(1000);
    let seen = client.until(|seen| seen.answers.contains_key(&5));
    let interim = seen.answers.get(&5).map(|answer| &*answer.interim);
    assert_eq!(interim, Some(&[100][..]), "to be asked: {seen:?}");
    client.data(5, END_STREAM, b"hi");
    assert_eq!(&*client.answer(5).answers[&5].text, "/x hi");
}

/// Section 5.2.1: what others were sent and did not take has used up the window they share.
#[test]
fn a_client_that_may_send_nothing_is_not_told_that_it_stalls() {
    let upstream = echo();
    let mut stuck = route("stuck", "/stuck", &upstream);
    stuck.auth_required = Some(false);
    stuck.targets = vec![unreading("")];
    let timeout = Duration::from_millis(400);
    let node = Node::start_empty(|settings| settings.body_timeout = timeout);
    node.load(vec![open_route(&upstream), stuck], vec![]);
    let mut client = Client::start(&node);
    client.waits(100);
    let stuck = [1, 3, 5, 7, 9, 11];
    for id in stuck {
        client.write(&post(id, "/stuck", &[]));
        for length in [16_384, 1024, 64, 1] {
            while client.data(id, 0, &vec![0; length]) {}
        }
    }
    client.write(&post(17, "/other", &[]));
    let seen = client.settle(4 * 400);
    assert!(!seen.has_ended(17), "{seen:?}");
    client.write(&stuck.map(|id| reset(id, CANCEL)).concat());
    assert!(client.data(17, END_STREAM, b"hello"), "{:?}", client.seen);
    let seen = client.answer(17);
    assert_eq!((seen.status(17), &*seen.answers[&17].text), (200, "/other hello"), "{seen:?}");
}

#[test]
fn a_client_that_stalls_in_its_body_is_told_so() {
    let timeout = Duration::from_millis(300);
    let node = open_node(&Upstream::hello(), |settings| settings.body_timeout = timeout);
    let mut client = Client::start(&node);
    client.write(&[post(1, "/", &[]), data(0, b"part")].concat());
    let seen = client.answer(1);
    assert!(seen.status(1) == 408 || seen.resets.contains_key(&1), "{seen:?}");
    let event = node.event();
    assert_eq!((event.status.as_u16(), event.error), (408, Some("body_timeout")));
    client.write(&get(AFTER, "/"));
    assert_eq!(client.answer(AFTER).status(AFTER), 200);
}
