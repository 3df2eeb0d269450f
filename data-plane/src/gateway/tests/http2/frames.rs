//! The preface, settings, and frames that break the rules.

use super::{
    super::{
        bodies::unreading,
        node::{Node, Upstream, open_node, open_route},
    },
    AFTER, assert_none,
    client::{
        ACK, CONTINUATION, Client, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, End,
        FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
        MAX_WINDOW, NO_ERROR, PADDED, PING, PREFACE, PRIORITIZED, PRIORITY, PROTOCOL_ERROR,
        PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW, WINDOW_UPDATE, frame, get, head,
        post, reset, settings, window_update,
    },
};

/// How a node may take a row.
#[derive(Clone, Copy)]
enum Want {
    /// As a connection error of one of these codes: nothing more is served.
    Connection(&'static [u32]),
    /// As a stream error of one of these codes. A connection error instead is never wrong
    /// (section 5.4.1).
    Stream(&'static [u32]),
    /// As nothing worth an error.
    Nothing,
    /// As nothing, or as a stream error of this code.
    NothingOrStream(u32),
}

use Want::{Connection, Nothing, NothingOrStream, Stream};

const SIZE: Want = Connection(&[FRAME_SIZE_ERROR]);
const SIZE_OR_PROTOCOL: Want = Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);
const PROTOCOL: Want = Connection(&[PROTOCOL_ERROR]);
const FLOW: Want = Connection(&[FLOW_CONTROL_ERROR]);

type Row = (&'static str, Vec<u8>, Want);

/// Plays each row on a connection of its own, and then sends one more request.
fn play(rows: Vec<Row>) {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut wrong = Vec::new();
    for (name, frames, want) in rows {
        let mut client = Client::start(&node);
        client.write(&[frames, get(AFTER, "/after")].concat());
        let seen = client.answer(AFTER);
        // So that the node has had the time to reset a stream after it.
        let seen = if seen.end.is_none() { client.settle(20) } else { seen };
        let (goes_on, error) = (seen.status(AFTER) == 200, seen.error());
        let has = |codes: &[u32], code: Option<u32>| code.is_some_and(|code| codes.contains(&code));
        let is_right = match want {
            Connection(codes) => has(codes, error) && seen.is_closed() && !goes_on,
            Stream(codes) if error.is_some() => has(codes, error),
            Stream(codes) => has(codes, seen.resets.values().next().copied()) && goes_on,
            Nothing => goes_on && seen.resets.is_empty() && error.is_none(),
            NothingOrStream(code) => {
                goes_on && seen.resets.values().all(|found| *found == code) && error.is_none()
            }
        };
        if !is_right {
            wrong.push(format!("{name}: {seen:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_nodes_settings_come_first_and_ours_are_acknowledged() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut client = Client::silent(&node);
    client.write(PREFACE);
    client.write(&settings(&[]));
    let seen = client.until(|seen| seen.settings_acks == 1);
    assert_eq!((seen.first, seen.settings_acks), (Some(SETTINGS), 1), "{seen:?}");
    client.write(&[settings(&[(0xff, 1)]), settings(&[(INITIAL_WINDOW_SIZE, 1)])].concat());
    let seen = client.until(|seen| seen.settings_acks == 3);
    assert_eq!(seen.settings_acks, 3, "section 6.5.3: each one: {seen:?}");
}

#[test]
fn a_connection_that_does_not_begin_as_it_must_is_closed() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut wrong = Vec::new();
    for (name, first) in [
        ("3.4 another preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("3.4 a request for HTTP/2", b"PRI / HTTP/1.1\r\nhost: a.b\r\n\r\n".to_vec()),
        ("3.4 PING before SETTINGS", [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat()),
        ("3.4 HEADERS before SETTINGS", [PREFACE, &get(1, "/")].concat()),
        ("3.4 acknowledged before it is sent", [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat()),
    ] {
        let mut client = Client::silent(&node);
        client.write(&[first, settings(&[]), get(AFTER, "/after")].concat());
        let seen = client.answer(AFTER);
        let is_right = seen.is_closed() && seen.goaway.is_none_or(|(_, code)| code != NO_ERROR);
        if !is_right || seen.status(AFTER) == 200 {
            wrong.push(format!("{name}: {seen:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn settings_out_of_order_end_the_connection() {
    let one = |id, value| settings(&[(id, value)]);
    let full = window_update(1, MAX_WINDOW - WINDOW);
    play(vec![
        ("6.5 a length that is no multiple of 6", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("6.5 an ack with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        ("6.5 on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("6.5.2 ENABLE_PUSH of 2", one(ENABLE_PUSH, 2), PROTOCOL),
        ("6.5.2 a window that is too large", one(INITIAL_WINDOW_SIZE, MAX_WINDOW + 1), FLOW),
        ("6.5.2 frames that are too small", one(MAX_FRAME_SIZE, (1 << 14) - 1), PROTOCOL),
        ("6.5.2 frames that are too large", one(MAX_FRAME_SIZE, 1 << 24), PROTOCOL),
        ("6.5.2 a setting nobody knows", one(0xff, 1), Nothing),
        ("6.5.2 the largest values", settings(&[(4, MAX_WINDOW), (5, (1 << 24) - 1)]), Nothing),
        (
            "6.9.2 a window of a stream that becomes too large",
            [post(1, "/", &[]), full, one(INITIAL_WINDOW_SIZE, WINDOW + 1)].concat(),
            FLOW,
        ),
    ]);
}

#[test]
fn frames_of_a_wrong_size_are_refused() {
    let open = |more: Vec<u8>| [post(1, "/", &[]), more].concat();
    let large = [0; (1 << 14) + 1];
    let padded = |flags| frame(HEADERS, PADDED | END_HEADERS | END_STREAM | flags, 1, &[]);
    play(vec![
        ("4.2 DATA", open(frame(DATA, 0, 1, &large)), Stream(&[FRAME_SIZE_ERROR])),
        ("4.2 HEADERS", frame(HEADERS, END_HEADERS | END_STREAM, 1, &large), SIZE),
        ("4.2 CONTINUATION", open_block(&[frame(CONTINUATION, 0, 1, &large)]), SIZE),
        (
            "6.1 no room for the length of padding",
            open(frame(DATA, PADDED, 1, &[])),
            SIZE_OR_PROTOCOL,
        ),
        ("6.1 all padding and more", open(frame(DATA, PADDED, 1, &[5; 5])), PROTOCOL),
        ("6.2 no room for the length of padding", padded(0), SIZE_OR_PROTOCOL),
        ("6.2 no room for a priority", padded(PRIORITIZED), SIZE_OR_PROTOCOL),
        (
            "6.2 all padding and more",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, &[9; 9]),
            PROTOCOL,
        ),
        ("6.3 PRIORITY", open(frame(PRIORITY, 0, 1, &[0; 4])), Stream(&[FRAME_SIZE_ERROR])),
        ("6.4 RST_STREAM", open(frame(RST_STREAM, 0, 1, &[0; 3])), SIZE),
        ("6.7 a short PING", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("6.7 a long PING", frame(PING, 0, 0, &[0; 9]), SIZE),
        ("6.8 GOAWAY", frame(GOAWAY, 0, 0, &[0; 7]), SIZE),
        ("6.9 WINDOW_UPDATE", open(frame(WINDOW_UPDATE, 0, 1, &[0; 3])), SIZE),
        ("6.9 WINDOW_UPDATE of the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 5]), SIZE),
    ]);
}

#[test]
fn streams_have_an_order_and_an_end() {
    let open = |more: Vec<u8>| [post(1, "/", &[]), more].concat();
    let gone = |more: Vec<u8>| [post(1, "/", &[]), reset(1, 8), more].concat();
    let closed: Want = Stream(&[STREAM_CLOSED]);
    // By section 5.1.1 its number is a wrong one as well.
    let closed_or_back: Want = Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let data = |stream| frame(DATA, 0, stream, b"x");
    let depends_on_itself = [&1_u32.to_be_bytes()[..], &[0]].concat();
    let prioritized = [&depends_on_itself[..], &head("GET", "/", &[])].concat();
    play(vec![
        ("5.1 DATA on an idle stream", data(1), PROTOCOL),
        ("5.1 RST_STREAM on an idle stream", reset(1, 8), PROTOCOL),
        ("5.1 WINDOW_UPDATE on an idle stream", window_update(1, 1), PROTOCOL),
        ("5.1 PRIORITY on an idle stream", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]), Nothing),
        ("5.1 DATA after END_STREAM", [get(1, "/"), data(1)].concat(), closed),
        ("5.1 HEADERS after END_STREAM", [get(1, "/"), get(1, "/")].concat(), closed_or_back),
        ("5.1 DATA after RST_STREAM", gone(data(1)), closed),
        ("5.1 HEADERS after RST_STREAM", gone(get(1, "/")), closed_or_back),
        ("5.1 WINDOW_UPDATE after RST_STREAM", gone(window_update(1, 1)), Nothing),
        ("5.1 RST_STREAM twice", gone(reset(1, 8)), Nothing),
        ("5.1.1 an even stream", get(2, "/"), PROTOCOL),
        ("5.1.1 streams that go back", [get(5, "/"), get(3, "/")].concat(), PROTOCOL),
        ("5.1.1 a stream that was left out", [get(5, "/"), data(3)].concat(), closed_or_back),
        ("6.1 DATA on no stream", data(0), PROTOCOL),
        ("6.2 HEADERS on no stream", get(0, "/"), PROTOCOL),
        ("6.3 PRIORITY on no stream", frame(PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
        ("6.4 RST_STREAM on no stream", reset(0, 8), PROTOCOL),
        ("6.7 PING on a stream", open(frame(PING, 0, 1, &[0; 8])), PROTOCOL),
        ("6.8 GOAWAY on a stream", open(frame(GOAWAY, 0, 1, &[0; 8])), PROTOCOL),
        (
            "5.3 HEADERS that depend on themselves",
            frame(HEADERS, PRIORITIZED | END_HEADERS | END_STREAM, 1, &prioritized),
            NothingOrStream(PROTOCOL_ERROR),
        ),
        (
            "5.3 PRIORITY that depends on itself",
            open(frame(PRIORITY, 0, 1, &depends_on_itself)),
            NothingOrStream(PROTOCOL_ERROR),
        ),
    ]);
}

/// A header block that goes on.
fn open_block(more: &[Vec<u8>]) -> Vec<u8> {
    [frame(HEADERS, END_STREAM, 1, &head("GET", "/", &[])), more.concat()].concat()
}

#[test]
fn header_blocks_are_not_interrupted() {
    let end = |stream| frame(CONTINUATION, END_HEADERS, stream, &[]);
    let promise = [&2_u32.to_be_bytes()[..], &head("GET", "/", &[])].concat();
    play(vec![
        ("4.3 in three frames", open_block(&[frame(CONTINUATION, 0, 1, &[]), end(1)]), Nothing),
        ("6.10 by PRIORITY", open_block(&[frame(PRIORITY, 0, 1, &[0; 5]), end(1)]), PROTOCOL),
        ("6.10 by PING", open_block(&[frame(PING, 0, 0, &[0; 8]), end(1)]), PROTOCOL),
        ("6.10 by DATA", open_block(&[frame(DATA, 0, 1, b"x"), end(1)]), PROTOCOL),
        ("5.5 by what nobody knows", open_block(&[frame(0xbe, 0, 1, &[]), end(1)]), PROTOCOL),
        ("6.2 by HEADERS", open_block(&[get(3, "/"), end(1)]), PROTOCOL),
        ("6.10 by another stream", open_block(&[end(3)]), PROTOCOL),
        ("6.10 by no stream", open_block(&[end(0)]), PROTOCOL),
        ("6.10 CONTINUATION of nothing", end(1), PROTOCOL),
        ("6.10 CONTINUATION of what has ended", [post(1, "/", &[]), end(1)].concat(), PROTOCOL),
        ("8.4 PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &promise), PROTOCOL),
    ]);
}

#[test]
fn windows_have_bounds() {
    let open = |more: Vec<u8>| [post(1, "/", &[]), more].concat();
    play(vec![
        ("6.9 by 0, of the connection", window_update(0, 0), PROTOCOL),
        ("6.9 by 0, of a stream", open(window_update(1, 0)), Stream(&[PROTOCOL_ERROR])),
        ("6.9.1 past the largest, of the connection", window_update(0, MAX_WINDOW), FLOW),
        (
            "6.9.1 past the largest, of a stream",
            open(window_update(1, MAX_WINDOW)),
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        ("6.9.1 to the largest", open(window_update(1, MAX_WINDOW - WINDOW)), Nothing),
    ]);
}

#[test]
fn what_is_not_known_is_passed_over() {
    let masked = [get(1 | 1 << 31, "/"), reset(1 | 1 << 31, 8)].concat();
    play(vec![
        ("4.1 the reserved bit", masked, Nothing),
        ("4.1 flags nobody knows", frame(PING, 0xfe, 0, &[0; 8]), Nothing),
        ("5.5 a type nobody knows", frame(0xbe, 0xff, 0, &[0; 100]), Nothing),
        ("5.5 the same on a stream", frame(0xbe, 0xff, 7, &[0; 100]), Nothing),
        ("6.7 an answer to no PING", frame(PING, ACK, 0, &[7; 8]), Nothing),
        ("7 a code nobody knows", [get(1, "/"), reset(1, 0xdead)].concat(), Nothing),
    ]);
}

#[test]
fn pings_are_answered_with_what_they_held() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut client = Client::start(&node);
    for byte in [1, 2] {
        client.write(&frame(PING, 0, 0, &[byte; 8]));
    }
    client.write(&frame(PING, ACK, 0, &[3; 8]));
    let seen = client.until(|seen| seen.pongs.len() == 2);
    assert_eq!(seen.pongs, [[1; 8], [2; 8]]);
    let seen = client.settle(50);
    assert_eq!((seen.pongs.len(), seen.end), (2, Some(End::Silent)), "{seen:?}");
}

/// Section 5.1: what was under way when a stream ended is no error.
#[test]
fn what_comes_late_on_a_stream_is_passed_over() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut client = Client::start(&node);
    client.write(&get(1, "/"));
    client.answer(1);
    for late in [window_update(1, 1), reset(1, 8), frame(PRIORITY, 0, 1, &[0; 5])] {
        client.write(&late);
    }
    client.write(&get(AFTER, "/after"));
    let seen = client.answer(AFTER);
    assert_eq!((seen.status(AFTER), seen.resets.len(), seen.error()), (200, 0, None), "{seen:?}");
    client.write(&frame(DATA, 0, 1, b"x"));
    let seen = client.settle(50);
    let code = seen.error().or(seen.resets.get(&1).copied());
    assert!(code.is_none_or(|code| code == STREAM_CLOSED), "{seen:?}");
}

#[test]
fn more_data_than_the_window_has_room_for_is_refused() {
    let mut route = open_route(&Upstream::hello());
    route.targets = vec![unreading("")];
    let node = Node::start(vec![route], vec![]);
    let mut client = Client::start(&node);
    client.write(&post(1, "/", &[]));
    // Far more than any window, and than systems keep.
    let piece = frame(DATA, 0, 1, &[0; 16_000]).repeat(100);
    for _ in 0..40 {
        client.write(&piece);
    }
    let seen = client.answer(1);
    let code = seen.error().or(seen.resets.get(&1).copied());
    assert_eq!(code, Some(FLOW_CONTROL_ERROR), "section 6.9.1: {seen:?}");
}
