//! Heads that are malformed, and compression that is broken.

use super::{
    super::node::{Node, Upstream, open_node},
    AFTER, assert_none,
    client::{
        COMPRESSION_ERROR, CONTINUATION, Client, END_HEADERS, END_STREAM, Field, HEADERS,
        PROTOCOL_ERROR, Seen, block, frame, get, integer,
    },
};

const M: Field<'_> = (":method", "GET");
const S: Field<'_> = (":scheme", "http");
const P: Field<'_> = (":path", "/bad");
const A: Field<'_> = (":authority", "a.b");

type Row = (&'static str, &'static [Field<'static>]);

/// None of them is a request.
const MALFORMED: &[Row] = &[
    ("8.2.1 a name in upper case", &[M, S, P, A, ("X-Upper", "1")]),
    ("8.2.1 a name with a space", &[M, S, P, A, ("x y", "1")]),
    ("8.2.1 a name with a colon", &[M, S, P, A, ("x:y", "1")]),
    ("8.2.1 a name with NUL", &[M, S, P, A, ("x\0y", "1")]),
    ("8.2.1 a name with CR LF", &[M, S, P, A, ("x\r\ny", "1")]),
    ("8.2.1 a name with DEL", &[M, S, P, A, ("x\x7f", "1")]),
    ("8.2.1 a name beyond ASCII", &[M, S, P, A, ("x\u{e4}", "1")]),
    ("8.2.1 no name", &[M, S, P, A, ("", "1")]),
    ("8.2.1 a value with NUL", &[M, S, P, A, ("x", "a\0b")]),
    ("8.2.1 a value with CR", &[M, S, P, A, ("x", "a\rb")]),
    ("8.2.1 a value with LF", &[M, S, P, A, ("x", "a\nb")]),
    ("8.2.1 a value with a header in it", &[M, S, P, A, ("x", "a\r\nx-evil: 1")]),
    ("8.2.1 a space before a value", &[M, S, P, A, ("x", " 1")]),
    ("8.2.1 a space behind a value", &[M, S, P, A, ("x", "1 ")]),
    ("8.2.1 a tab before a value", &[M, S, P, A, ("x", "\t1")]),
    ("8.2.1 a tab behind a value", &[M, S, P, A, ("x", "1\t")]),
    ("8.2.2 connection", &[M, S, P, A, ("connection", "close")]),
    ("8.2.2 keep-alive", &[M, S, P, A, ("keep-alive", "5")]),
    ("8.2.2 proxy-connection", &[M, S, P, A, ("proxy-connection", "keep-alive")]),
    ("8.2.2 transfer-encoding", &[M, S, P, A, ("transfer-encoding", "chunked")]),
    ("8.2.2 upgrade", &[M, S, P, A, ("upgrade", "websocket")]),
    ("8.2.2 te", &[M, S, P, A, ("te", "gzip")]),
    ("8.2.2 te with more than trailers", &[M, S, P, A, ("te", "trailers, deflate")]),
    ("8.3 a pseudo-header behind a header", &[M, S, A, ("x", "1"), P]),
    ("8.3 one that is not known", &[M, S, P, A, (":foo", "1")]),
    ("8.3 one of answers", &[M, S, P, A, (":status", "200")]),
    ("8.3 one that was not agreed on", &[M, S, P, A, (":protocol", "websocket")]),
    ("8.3.1 no :method", &[S, P, A]),
    ("8.3.1 no :scheme", &[M, P, A]),
    ("8.3.1 no :path", &[M, S, A]),
    ("8.3.1 two of :method", &[M, M, S, P, A]),
    ("8.3.1 two of :scheme", &[M, S, S, P, A]),
    ("8.3.1 two of :path", &[M, S, P, P, A]),
    ("8.3.1 two of :authority", &[M, S, P, A, A]),
    ("8.3.1 an empty :method", &[(":method", ""), S, P, A]),
    ("8.3.1 a :method with a space", &[(":method", "GET /x"), S, P, A]),
    ("8.3.1 an empty :scheme", &[M, (":scheme", ""), P, A]),
    ("8.3.1 an empty :path", &[M, S, (":path", ""), A]),
    ("8.3.1 a :path that is none", &[M, S, (":path", "bad"), A]),
    ("8.3.1 a :path that is a URI", &[M, S, (":path", "http://a.b/bad"), A]),
    ("8.3.1 a :path of OPTIONS alone", &[M, S, (":path", "*"), A]),
    ("8.3.1 a :path with a space", &[M, S, (":path", "/bad HTTP/1.1"), A]),
    ("8.3.1 a :path with CR LF", &[M, S, (":path", "/bad\r\nx: 1"), A]),
    ("8.3.1 a :path with NUL", &[M, S, (":path", "/bad\0"), A]),
    ("8.3.1 a fragment in the path", &[M, S, (":path", "/bad#x"), A]),
    ("8.3.1 a fragment in the query", &[M, S, (":path", "/bad?x#y"), A]),
    ("8.3.1 a query with a space", &[M, S, (":path", "/bad?x HTTP/1.1"), A]),
    ("8.3.1 a query with a tab", &[M, S, (":path", "/bad?x\ty"), A]),
    ("8.3.1 an empty :authority", &[M, S, P, (":authority", "")]),
    ("8.3.1 :authority with a user", &[M, S, P, (":authority", "u@a.b")]),
    ("8.3.1 :authority with a path", &[M, S, P, (":authority", "a.b/c")]),
    ("8.3.1 :authority with a list", &[M, S, P, (":authority", "a.b, c.d")]),
    ("8.3.1 :authority and another host", &[M, S, P, A, ("host", "c.d")]),
    ("8.3.1 neither :authority nor host", &[M, S, P]),
    ("9110 7.2 two hosts", &[M, S, P, ("host", "a.b"), ("host", "a.b")]),
    ("8.5 CONNECT with a path", &[(":method", "CONNECT"), S, P, A]),
    ("8.5 CONNECT to nowhere", &[(":method", "CONNECT")]),
    ("8.1.1 a length behind the end", &[M, S, P, A, ("content-length", "5")]),
    ("9110 8.6 a length that is none", &[M, S, P, A, ("content-length", "+0")]),
    ("9110 8.6 two lengths", &[M, S, P, A, ("content-length", "0"), ("content-length", "5")]),
];

fn request(stream: u32, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields))
}

/// Sends a row, then a request that is none of its business.
fn play(node: &Node, fields: &[Field<'_>]) -> Seen {
    let mut client = Client::start(node);
    client.write(&request(1, fields));
    client.answer(1);
    client.write(&get(AFTER, "/after"));
    client.answer(AFTER);
    client.seen
}

#[test]
fn malformed_requests_end_alone_and_reach_no_upstream() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut wrong = Vec::new();
    for (name, fields) in MALFORMED {
        let before = upstream.received().len();
        let seen = play(&node, fields);
        let is_problem = seen
            .answers
            .get(&1)
            .is_some_and(|answer| answer.status == 400 && answer.text.contains("\"request_id\":"));
        let is_reset = seen.resets.get(&1) == Some(&PROTOCOL_ERROR);
        let received = upstream.received().split_off(before);
        let is_none = received.iter().all(|request| request.first == "GET /after HTTP/1.1");
        if !(is_problem || is_reset) || seen.status(AFTER) != 200 || !is_none {
            wrong.push(format!("{name}: {seen:?}, {received:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn each_malformed_request_is_recorded_once() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut wrong = Vec::new();
    for (name, fields) in MALFORMED {
        if play(&node, fields).status(AFTER) != 200 {
            wrong.push(format!("{name}: no request after it"));
            continue;
        }
        let mut found = Vec::new();
        loop {
            let event = node.event();
            if event.texts.path() == b"/after" {
                break;
            }
            found.push((event.status.as_u16(), event.error));
        }
        // A length may be found out with the body.
        if found != [(400, Some("malformed"))] && found != [(400, Some("body_broken"))] {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn sound_requests_of_every_form_reach_the_upstream() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let path: Field<'_> = (":path", "/good?a=%20&b=/?");
    for (name, fields, header, values) in [
        ("8.2.2 te", &[M, S, path, A, ("te", "trailers")][..], "te", &[][..]),
        (
            "8.2.3 cookies",
            &[M, S, path, A, ("cookie", "a=1"), ("cookie", "b=2")],
            "cookie",
            &["a=1; b=2"],
        ),
        ("8.3.1 a host alone", &[M, S, path, ("host", "a.b")], "x-forwarded-host", &["a.b"]),
        ("8.3.1 the same host", &[M, S, path, A, ("host", "a.b")], "x-forwarded-host", &["a.b"]),
        ("8.3 in another order", &[A, path, S, M], "x-forwarded-host", &["a.b"]),
        ("8.2.1 an empty value", &[M, S, path, A, ("x", "")], "x", &[""]),
        ("8.2.1 a space inside", &[M, S, path, A, ("x", "a \t b")], "x", &["a \t b"]),
        ("9110 5.5 beyond ASCII", &[M, S, path, A, ("x", "\u{e4}")], "x", &["\u{e4}"]),
        ("9110 5.3 two lines", &[M, S, path, A, ("x", "1"), ("x", "2")], "x", &["1", "2"]),
        ("9110 8.6 a length of nothing", &[M, S, path, A, ("content-length", "0")], "te", &[]),
    ] {
        let seen = play(&node, fields);
        assert_eq!((seen.status(1), seen.status(AFTER)), (200, 200), "{name}: {seen:?}");
        let received = upstream.received();
        let received = &received[received.len() - 2];
        assert_eq!(received.first, "GET /good?a=%20&b=/? HTTP/1.1", "{name}");
        assert_eq!(received.headers(header), values, "{name}");
    }
    let crumbs: Vec<String> = (0..200).map(|number| format!("c{number}=x")).collect();
    let lines = crumbs.iter().map(|crumb| ("cookie", &**crumb));
    let seen = play(&node, &[M, S, path, A].into_iter().chain(lines).collect::<Vec<_>>());
    assert_eq!(seen.status(1), 200, "8.2.3 as many as a browser has");
    let received = upstream.received();
    assert_eq!(received[received.len() - 2].headers("cookie"), [crumbs.join("; ")]);
    let many = [M, S, path, A].into_iter().chain(std::iter::repeat_n(("cookie", "a"), 401));
    assert_eq!(play(&node, &many.collect::<Vec<_>>()).status(1), 431, "more than any has");
    let options = [(":method", "OPTIONS"), S, (":path", "*"), A];
    assert_eq!(play(&node, &options).status(1), 204, "8.3.1 of the server as a whole");
}

#[test]
fn connect_is_refused_like_any_method_that_is_not_served() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let seen = play(&node, &[(":method", "CONNECT"), (":authority", "a.b:80")]);
    let is_refused = [400, 405, 501].contains(&seen.status(1)) || seen.resets.contains_key(&1);
    assert!(is_refused && seen.status(AFTER) == 200, "section 8.5: {seen:?}");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn broken_compression_ends_the_connection() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let sound = block(&[M, S, P, A]);
    let behind = |bytes: &[u8]| [&sound, bytes].concat();
    let mut large = Vec::new();
    integer(&mut large, 0x20, 5, 4097);
    let mut wrong = Vec::new();
    // Sections are of RFC 7541.
    for (name, block) in [
        ("6.1 index 0", behind(&[0x80])),
        ("6.1 an index past both tables", behind(&[0xbe])),
        ("6.2 a name past both tables", behind(&[0x7f, 0, 1, b'x'])),
        ("5.1 a number that does not end", behind(&[0xff, 0x80])),
        ("5.1 a number that is too large", behind(&[&[0xff; 12][..], &[0x0f]].concat())),
        ("5.2 a string longer than the block", behind(&[0, 5, b'x'])),
        ("6.2 a name without a value", behind(&[0, 1, b'x'])),
        ("6.2 nothing of a literal", behind(&[0x40])),
        ("5.2 padding of more than 7 bits", behind(&[0, 1, b'x', 0x82, 0x1f, 0xff])),
        ("5.2 padding of zeros", behind(&[0, 1, b'x', 0x81, 0x18])),
        ("5.2 the end of strings in one", behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])),
        ("6.3 a table larger than allowed", [&large[..], &sound].concat()),
        ("4.2 a size behind a field", behind(&[0x20])),
    ] {
        let mut client = Client::start(&node);
        client.write(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        client.write(&get(AFTER, "/after"));
        let seen = client.answer(AFTER);
        if seen.error() != Some(COMPRESSION_ERROR) || !seen.is_closed() {
            wrong.push(format!("{name}: {seen:?}"));
        }
    }
    assert_none(&wrong);
    assert!(upstream.received().is_empty());
}

/// The examples of RFC 7541 appendix C.3 and C.4, all of them with the scheme `http`.
#[test]
fn all_ways_to_write_a_field_are_read() {
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828685bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let huffman = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828685bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for blocks in [plain, huffman] {
        let mut client = Client::start(&node);
        for (hex, stream) in blocks.iter().zip([1, 3, 5]) {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            let block: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            // In two pieces, cut where it may be in the middle of a string.
            let (begin, end) = block.split_at(block.len() / 2);
            client.write(&frame(HEADERS, END_STREAM, stream, begin));
            client.write(&frame(CONTINUATION, END_HEADERS, stream, end));
            let seen = client.answer(stream);
            assert_eq!(seen.status(stream), 200, "{hex}: {seen:?}");
            let received = upstream.last();
            let path = if stream == 5 { "/index.html" } else { "/" };
            assert_eq!(received.first, format!("GET {path} HTTP/1.1"), "{hex}");
            assert_eq!(received.header("x-forwarded-host"), Some("www.example.com"), "{hex}");
            let cache = (stream == 3).then_some("no-cache");
            assert_eq!(received.header("cache-control"), cache, "{hex}");
            let custom = (stream == 5).then_some("custom-value");
            assert_eq!(received.header("custom-key"), custom, "{hex}");
        }
    }
}

/// Section 4.3: the table belongs to the connection, whatever becomes of a stream.
#[test]
fn what_a_refused_request_put_into_the_table_is_there_for_the_next() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    let indexed = [&[0x40, 6], &b"x-kept"[..], &[2], b"v1"].concat();
    let refused = [block(&[M, S, P, A, ("connection", "close")]), indexed].concat();
    client.write(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &refused));
    let good = [&block(&[M, S, P, A])[..], &[0xbe]].concat();
    client.write(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &good));
    let seen = client.answer(3);
    assert_eq!(seen.status(3), 200, "{seen:?}");
    assert_eq!(upstream.last().header("x-kept"), Some("v1"));
    // Made empty, it holds nothing any more; made large again, it is filled anew.
    let emptied = [&[0x20, 0x3f, 0xe1, 0x1f][..], &block(&[M, S, P, A]), &[0xbe]].concat();
    client.write(&frame(HEADERS, END_STREAM | END_HEADERS, 5, &emptied));
    assert_eq!(client.answer(5).error(), Some(COMPRESSION_ERROR), "RFC 7541 section 4.4");
}
