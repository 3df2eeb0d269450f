//! Clients that want to cost more than they pay: each is bounded, and others are served meanwhile.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    io::Read as _,
    panic,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use socket2::SockRef;

use super::{
    super::{
        connections::whole,
        node::{self, Node, Upstream, open_node},
    },
    AFTER, assert_none,
    client::{
        CANCEL, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE,
        PING, PREFACE, PRIORITY, REFUSED_STREAM, SETTINGS, block, frame, get, head, integer, post,
        reset, settings, window_update,
    },
};

/// Another client is served, and soon.
fn assert_serves(node: &Node) {
    let began = Instant::now();
    assert_eq!(node.send(&node::get("/other", "")).status, 200);
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn requests_that_are_cancelled_at_once_cost_the_upstream_little() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    let all = (0..10_000).map(|number| 2 * number + 1);
    let frames = all.flat_map(|id| [get(id, "/reset"), reset(id, CANCEL)].concat());
    let frames: Vec<u8> = frames.collect();
    for piece in frames.chunks(20_000) {
        client.write(piece);
    }
    assert_serves(&node);
    client.write(&get(20_001, "/after"));
    let seen = client.answer(20_001);
    assert!(seen.error().is_some() || seen.status(20_001) == 200, "{:?}", seen.goaway);
    let reached = upstream.received().len();
    assert!(reached < 1000, "{reached} of 10,000 reached the upstream");
}

/// The node resets these itself, which costs as much: the client need not.
#[test]
fn errors_of_streams_are_bounded_too() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    for id in (0..10_000).map(|number| 2 * number + 1) {
        let frames = [post(id, "/reset", &[]), window_update(id, 0)].concat();
        if !client.write(&frames) {
            break;
        }
    }
    assert_serves(&node);
    client.write(&get(20_001, "/after"));
    let seen = client.answer(20_001);
    assert!(seen.error().is_some() || seen.status(20_001) == 200, "{:?}", seen.goaway);
    assert!(upstream.received().len() < 1000);
}

/// A few bytes may stand for a head of 64 KiB, and a connection has many.
#[test]
fn the_heads_of_a_connection_are_bounded_together() {
    let upstream = Upstream::scripted(|_, stream| {
        drop(stream.read(&mut [0]));
        false
    });
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    let mut entry = [&[0x40, 1], &b"x"[..]].concat();
    integer(&mut entry, 0, 7, 4000);
    let entry = [entry, vec![b'v'; 4000]].concat();
    let streams: Vec<u32> = (0..100).map(|number| 2 * number + 1).collect();
    for id in &streams {
        let first: &[u8] = if *id == 1 { &entry } else { &[] };
        let block = [&head("POST", "/", &[])[..], first, &[0xbe; 15]].concat();
        client.write(&frame(HEADERS, END_HEADERS, *id, &block));
    }
    let seen = client.settle(300);
    let refused = streams.iter().filter(|id| seen.resets.get(id) == Some(&REFUSED_STREAM)).count();
    // Two MiB hold 34 of them.
    assert!((60..70).contains(&refused), "{refused} of 100");
    client.write(&[reset(1, CANCEL), get(1001, "/after")].concat());
    let seen = client.settle(200);
    assert!(!seen.has_ended(1001) && seen.error().is_none(), "{:?}", seen.resets);
}

#[test]
fn heads_beyond_all_bounds_reach_no_upstream() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let head = head("GET", "/bomb", &[]);
    let of = |fields: Vec<u8>| [&head[..], &fields].concat();
    // One entry of the table, then 64 KiB of references to it: 260 MB.
    let mut entry = [&[0x40, 1], &b"x"[..]].concat();
    integer(&mut entry, 0, 7, 4000);
    let bomb = [entry, vec![b'v'; 4000], vec![0xbe; 65_536]].concat();
    let short = [&[0x40, 1], &b"x"[..], &[1], b"v", &[0xbe; 3000]].concat();
    let mut wrong = Vec::new();
    for (name, block) in [
        ("one field of 70 KB", of(block(&[("x", &"v".repeat(70_000))]))),
        ("many fields of 1 KB", of(block(&[("x", &*"v".repeat(1000)); 70]))),
        ("3000 short fields", of(short)),
        ("references to a large one", of(bomb)),
        ("a path of 70 KB", super::client::head("GET", &"/x".repeat(35_000), &[])),
    ] {
        let mut client = Client::start(&node);
        let pieces = block.chunks(16_384).collect::<Vec<_>>();
        for (number, piece) in pieces.iter().enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let end = if number + 1 == pieces.len() { END_HEADERS } else { 0 };
            let first = if number == 0 { END_STREAM } else { 0 };
            client.write(&frame(kind, end | first, 1, piece));
        }
        let seen = client.answer(1);
        let is_refused = seen.status(1) == 431 || seen.resets.contains_key(&1);
        if !is_refused && seen.error().is_none() {
            wrong.push(format!("{name}: {seen:?}"));
        }
    }
    assert_none(&wrong);
    assert!(upstream.received().is_empty());
}

#[test]
fn a_head_that_never_ends_is_not_read_for_ever() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut wrong = Vec::new();
    for (name, payload, times) in [
        ("in large pieces", block(&[("x", &"v".repeat(16_000))]), 4000),
        ("in small pieces", block(&[("x", "v")]), 1_000_000),
        ("in empty pieces", Vec::new(), 1_000_000),
    ] {
        let mut client = Client::start(&node);
        client.write(&frame(HEADERS, END_STREAM, 1, &head("GET", "/", &[])));
        let piece = frame(CONTINUATION, 0, 1, &payload);
        let many = piece.repeat((20_000 / piece.len()).max(1));
        let began = Instant::now();
        let mut sent = 0;
        while sent < times * piece.len() && client.write(&many) {
            sent += many.len();
        }
        let seen = client.until(|_| false);
        if !seen.is_closed() || began.elapsed() > Duration::from_secs(2) {
            wrong.push(format!("{name}: {sent} bytes, {:?}: {seen:?}", began.elapsed()));
        }
    }
    assert_none(&wrong);
    assert_serves(&node);
}

/// What has to be answered is read no faster than its answers are.
#[test]
fn a_client_that_never_reads_is_not_answered_into_memory() {
    const BOUND: usize = 24 << 20;
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for (name, frames) in [
        ("PING", frame(PING, 0, 0, &[0; 8]).repeat(2000)),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(2000)),
        ("WINDOW_UPDATE of nothing", window_update(1, 0).repeat(2000)),
    ] {
        let mut client = Client::silent(&node);
        let socket = SockRef::from(&client.stream);
        socket.set_recv_buffer_size(8192).expect("a socket");
        socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        client.write(&[PREFACE, &settings(&[]), &post(1, "/", &[])].concat());
        let mut sent = 0;
        while client.write(&frames) {
            sent += frames.len();
            assert!(sent < BOUND, "{name}: it goes on");
        }
        assert_serves(&node);
    }
}

/// Each costs a few bytes and means nothing. A node may end this, or take it in its stride.
#[test]
fn floods_of_frames_that_mean_nothing_keep_nobody_waiting() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    for (name, flood) in [
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("DATA of one byte", frame(DATA, 0, 1, b"x")),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5])),
        ("PRIORITY of streams that are not", frame(PRIORITY, 0, 77, &[0; 5])),
        ("WINDOW_UPDATE", window_update(1, 1)),
        ("WINDOW_UPDATE of the connection", window_update(0, 1)),
        ("a type nobody knows", frame(0xbe, 0, 1, &[])),
        ("windows that change", settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 2)])),
    ] {
        let mut client = Client::start(&node);
        client.write(&post(1, "/flood", &[]));
        // Within the windows of the node, for DATA that is none.
        let many = flood.repeat(1000);
        for _ in 0..10 {
            client.write(&many);
            client.waits(1);
            client.until(|_| false);
        }
        assert_serves(&node);
        client.waits(3000);
        client.write(&[frame(DATA, END_STREAM, 1, b"end"), get(AFTER, "/after")].concat());
        let seen = client.answer(AFTER);
        let goes_on = seen.status(AFTER) == 200 && client.answer(1).status(1) == 200;
        assert!(goes_on || client.seen.is_closed(), "{name}: {:?}", client.seen);
    }
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let timeout = Duration::from_millis(300);
    let node = open_node(&whole(1_000_000), |settings| settings.body_timeout = timeout);
    for (name, initial) in [("nothing", 0), ("one byte", 1), ("what fits", 30_000)] {
        let mut client = Client::start_with(&node, &[(INITIAL_WINDOW_SIZE, initial)]);
        let began = Instant::now();
        client.write(&get(1, "/"));
        let seen = client.answer(1);
        assert!(seen.is_closed() || seen.resets.contains_key(&1), "{name}: {seen:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{name}");
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.error), (200, Some("client_gone")), "{name}");
    }
}

#[test]
fn a_head_that_does_not_come_to_its_end_has_its_time() {
    let timeout = Duration::from_millis(300);
    let node = open_node(&Upstream::hello(), |settings| settings.header_timeout = timeout);
    let [begun, again] = [1, 3].map(|id| frame(HEADERS, END_STREAM, id, &head("GET", "/", &[])));
    let rows = [
        ("silence", begun.clone(), Vec::new()),
        ("behind a request", [get(1, "/"), again].concat(), Vec::new()),
        ("half a frame", begun[..20].to_vec(), Vec::new()),
        ("drop by drop", begun, frame(CONTINUATION, 0, 1, &[])),
    ];
    let mut clients = rows.map(|(name, first, more)| {
        let mut client = Client::start(&node);
        client.write(&first);
        client.waits(20);
        (name, client, more)
    });
    let patience = Instant::now() + Duration::from_secs(2);
    while clients.iter().any(|(_, client, _)| !client.seen.is_closed()) && Instant::now() < patience
    {
        for (_, client, more) in &mut clients {
            if !client.until(|_| false).is_closed() {
                client.write(more);
            }
        }
    }
    let late = clients.iter().filter(|(_, client, _)| !client.seen.is_closed());
    let late = late.map(|(name, client, _)| format!("{name}: {:?}", client.seen));
    assert_none(&late.collect::<Vec<_>>());
}

/// Ticks of the processor that the workers of these tests took, by thread.
fn ticks() -> HashMap<OsString, u64> {
    let tasks = fs::read_dir("/proc/self/task").expect("this process").flatten();
    let ticks = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("stat")).ok()?;
        let (_, fields) = text.split_once("(worker-")?;
        let fields: Vec<_> = fields.split(' ').skip(12).take(2).collect();
        Some((task.file_name(), fields.iter().flat_map(|field| field.parse::<u64>()).sum()))
    });
    ticks.collect()
}

#[test]
fn streams_that_wait_for_a_window_cost_nothing() {
    let others = ticks();
    let node = open_node(&whole(100_000), |_| {});
    let mut wrong = Vec::new();
    for (name, initial) in [("of the connection", 1 << 20), ("of their own", 10)] {
        let mut client = Client::start_with(&node, &[(INITIAL_WINDOW_SIZE, initial)]);
        client.write(&(0..100).flat_map(|number| get(2 * number + 1, "/")).collect::<Vec<_>>());
        client.settle(300);
        let before = ticks();
        thread::sleep(Duration::from_secs(1));
        // Workers of other tests may have begun since: that of this one is among these.
        let taken = ticks().into_iter().filter(|(thread, _)| !others.contains_key(thread));
        let taken = taken.filter_map(|(thread, now)| now.checked_sub(*before.get(&thread)?));
        let least = taken.min();
        if least.is_none_or(|ticks| ticks > 5) {
            wrong.push(format!("{name}: {least:?} of 100 ticks"));
        }
    }
    assert_none(&wrong);
}

/// Section 5.1: what crosses the end of its stream is no flood.
#[test]
fn windows_that_are_widened_too_late_are_no_flood() {
    let node = open_node(&Upstream::hello(), |_| {});
    let mut client = Client::start(&node);
    for round in 0..120 {
        let streams: Vec<u32> = (0..100).map(|number| 2 * (100 * round + number) + 1).collect();
        client.write(&streams.iter().flat_map(|id| get(*id, "/")).collect::<Vec<_>>());
        client.write(&window_update(0, 500));
        let seen = client.until(|seen| streams.iter().all(|id| seen.has_ended(*id)));
        let are_answered = streams.iter().all(|id| seen.status(*id) == 200);
        assert!(are_answered, "{round}: {:?} {:?}", seen.goaway, seen.end);
        client.write(&streams.iter().flat_map(|id| window_update(*id, 5)).collect::<Vec<_>>());
    }
}

/// Frames of every type, most of them on streams that may be there, some with what belongs in them.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(head("GET", "/", &[])),
        Just(head("POST", "/", &[("content-length", "5")])),
        any::<u32>().prop_map(|number| number.to_be_bytes().to_vec()),
        (0_u16..8, any::<u32>()).prop_map(|(id, value)| settings(&[(id, value)])[9..].to_vec()),
    ];
    (0_u8..11, any::<u8>(), 0_u32..12, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

#[test]
fn no_row_of_frames_makes_a_node_panic_or_keeps_it_from_serving() {
    // A panic ends one task alone, and the node goes on.
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let thread = thread::current();
        let of_worker = thread.name().is_some_and(|name| name.starts_with("worker-"));
        PANICS.fetch_add(of_worker.into(), Relaxed);
        before(panicked);
    }));
    let node = open_node(&Upstream::hello(), |_| {});
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    let rows = (prop::collection::vec(any_frame(), 0..40), 1_usize..200);
    let run = runner.run(&rows, |(frames, cut)| {
        let mut client = Client::start(&node);
        for piece in frames.concat().chunks(cut) {
            if !client.write(piece) {
                break;
            }
        }
        drop(client);
        assert_serves(&node);
        prop_assert_eq!(PANICS.load(Relaxed), 0);
        Ok(())
    });
    run.expect("it serves");
}
