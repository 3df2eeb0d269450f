//! Many streams on one connection, and how connections end.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use socket2::SockRef;

use super::{
    super::{
        connections::over_http2,
        http1::echo,
        node::{Upstream, open_node},
    },
    AFTER,
    client::{
        CANCEL, Client, DATA, END_STREAM, GOAWAY, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
        MAX_WINDOW, NO_ERROR, PING, REFUSED_STREAM, WINDOW, frame, get, post, reset, window_update,
    },
};

/// Answers below `/slow` after a while, or not at all once its client leaves, and counts those.
fn leavable(pause: u64, left: &Arc<AtomicUsize>) -> Upstream {
    let left = left.clone();
    Upstream::scripted(move |request, stream| {
        if request.first.contains("/slow") {
            stream.set_read_timeout(Some(Duration::from_millis(pause))).expect("a timeout");
            if let Ok(0) = stream.read(&mut [0]) {
                left.fetch_add(1, SeqCst);
                return false;
            }
            stream.set_read_timeout(None).expect("none");
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_ok()
    })
}

fn slow(pause: u64) -> Upstream {
    leavable(pause, &Arc::default())
}

#[test]
fn a_hundred_streams_at_once_get_each_its_own_answer() {
    let node = open_node(&echo(), |_| {});
    over_http2(&node, async |sender, authority| {
        let requests = (0..100).map(|number| {
            let request = http::Request::post(format!("http://{authority}/{number}"));
            let body = Full::new(Bytes::from(format!("{number} ").repeat(500)));
            let answer = sender.send_request(request.body(body).expect("a request"));
            async move { answer.await.expect("an answer").into_body().collect().await }
        });
        for (number, answer) in join_all(requests).await.into_iter().enumerate() {
            let said = format!("/{number} {}", format!("{number} ").repeat(500));
            assert!(answer.expect("a body").to_bytes() == said, "{number}");
        }
    });
}

/// Section 5.1.2.
#[test]
fn streams_beyond_what_was_agreed_on_are_refused_alone() {
    let node = open_node(&slow(500), |_| {});
    let mut client = Client::start(&node);
    let most = client.seen.settings[&MAX_CONCURRENT_STREAMS];
    assert!(most >= 100, "section 6.5.2 recommends no less: {most}");
    let streams: Vec<u32> = (0..most + 10).map(|number| 2 * number + 1).collect();
    client.write(&streams.iter().map(|id| get(*id, "/slow")).collect::<Vec<_>>().concat());
    let seen = client.until(|seen| streams.iter().all(|id| seen.has_ended(*id)));
    let (taken, refused) = streams.split_at(most as usize);
    for id in taken {
        assert_eq!(seen.status(*id), 200, "{id}: {seen:?}");
    }
    for id in refused {
        assert_eq!(seen.resets.get(id), Some(&REFUSED_STREAM), "{id}: {seen:?}");
    }
    client.write(&get(1001, "/after"));
    let seen = client.answer(1001);
    assert_eq!(seen.status(1001), 200, "{seen:?}");
}

#[test]
fn a_stream_that_is_cancelled_frees_its_upstream_and_no_other() {
    let left = Arc::default();
    let node = open_node(&leavable(1000, &left), |_| {});
    let mut client = Client::start(&node);
    client.write(&[get(1, "/slow/1"), get(3, "/slow/3"), post(5, "/5", &[])].concat());
    client.settle(200);
    client.write(&[reset(1, CANCEL), reset(5, CANCEL)].concat());
    let events = [node.event(), node.event()];
    for path in [&b"/slow/1"[..], b"/5"] {
        let event = events.iter().find(|event| event.texts.path() == path).expect("recorded");
        let is_broken = path == b"/5" && event.error == Some("body_broken");
        assert!(is_broken || (event.status.as_u16(), event.error) == (499, Some("client_gone")));
    }
    client.write(&get(AFTER, "/after"));
    let seen = client.answer(AFTER);
    assert_eq!((seen.status(AFTER), seen.is_answered(3)), (200, false), "{seen:?}");
    // Long before the other one is answered; the upstream's own thread has to see it.
    for _ in 0..50 {
        if left.load(SeqCst) == 0 {
            thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(left.load(SeqCst), 1, "the upstream was left at once");
    let seen = client.answer(3);
    assert_eq!((seen.status(3), seen.size(3)), (200, 5), "{seen:?}");
}

/// What streams until nobody wants it any more has no other end.
#[test]
fn streams_that_are_cancelled_once_they_are_answered_are_no_offence() {
    let upstream = Upstream::scripted(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        drop(stream.write_all(head.as_bytes()));
        drop(stream.read(&mut [0]));
        false
    });
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    client.write(&get(1, "/first"));
    for id in (3..).step_by(2).take(300) {
        client.write(&get(id, "/next"));
        let seen = client.until(|seen| seen.size(id) == 2);
        assert_eq!(seen.status(id), 200, "{id}: {:?}", seen.goaway);
        client.write(&reset(id, CANCEL));
    }
    let seen = client.settle(100);
    assert!(seen.error().is_none() && !seen.is_closed() && !seen.has_ended(1), "{:?}", seen.goaway);
}

#[test]
fn a_stream_that_is_cancelled_with_its_request_is_recorded_and_reaches_no_upstream() {
    let upstream = Upstream::hello();
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    client.write(&[get(1, "/gone"), reset(1, CANCEL), get(3, "/after")].concat());
    let seen = client.answer(3);
    assert_eq!((seen.status(1), seen.status(3)), (0, 200), "{seen:?}");
    let mut events = [node.event(), node.event()];
    events.sort_by_key(|event| event.status);
    let noted = events.each_ref().map(|event| (event.texts.path(), event.status.as_u16()));
    assert_eq!(noted, [(&b"/after"[..], 200), (b"/gone", 499)]);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_connection_that_breaks_off_cancels_all_its_streams() {
    let left = Arc::default();
    let node = open_node(&leavable(3000, &left), |_| {});
    let mut client = Client::start(&node);
    client.write(&[1, 3, 5].map(|id| get(id, "/slow")).concat());
    client.settle(200);
    drop(client);
    for _ in 0..3 {
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.error), (499, Some("client_gone")));
    }
    assert!(node.has_no_event());
    let patience = Instant::now() + Duration::from_secs(1);
    while left.load(SeqCst) < 3 {
        assert!(Instant::now() < patience, "upstreams are held: {left:?} of 3 were left");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_huge_answer_does_not_keep_a_small_one_waiting() {
    const HUGE: usize = 256 << 20;
    let upstream = Upstream::scripted(|request, stream| {
        let size = if request.first.contains("/huge") { HUGE } else { 50_000 };
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"));
        let piece = [b'x'; 50_000];
        (0..size)
            .step_by(50_000)
            .all(|at| stream.write_all(&piece[..(size - at).min(50_000)]).is_ok())
    });
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start_with(&node, &[(INITIAL_WINDOW_SIZE, MAX_WINDOW)]);
    // It is the client that is slow.
    client.pause = Duration::from_micros(200);
    SockRef::from(&client.stream).set_recv_buffer_size(100_000).expect("a socket");
    client.write(&window_update(0, MAX_WINDOW - WINDOW));
    client.write(&get(1, "/huge"));
    client.until(|seen| seen.size(1) > 1 << 20);
    for stream in [3, 5, 7] {
        let before = client.seen.size(1);
        client.write(&get(stream, "/small"));
        let seen = client.answer(stream);
        assert_eq!((seen.status(stream), seen.size(stream)), (200, 50_000), "{seen:?}");
        // Sockets hold much that was written before.
        let between = seen.size(1) - before;
        assert!(between < 8 << 20, "{stream}: {between} bytes of the other came first");
    }
}

/// Section 6.8.
#[test]
fn a_stopping_node_says_so_and_finishes_what_is_under_way() {
    let upstream = slow(700);
    let node = open_node(&upstream, |_| {});
    let mut client = Client::start(&node);
    client.write(&[get(1, "/slow"), post(3, "/slow", &[])].concat());
    let mut idle = Client::start(&node);
    let mut half = Client::start(&node);
    half.write(&get(1, "/half")[..20]);
    client.settle(200);
    node.begin_stop();
    let seen = client.until(|seen| seen.goaway.is_some_and(|(last, _)| last <= 3));
    assert_eq!(seen.goaway, Some((3, NO_ERROR)), "{seen:?}");
    client.write(&get(5, "/late"));
    client.write(&frame(DATA, END_STREAM, 3, b"hi"));
    let seen = client.until(|_| false);
    assert!(seen.is_closed() && seen.error().is_none(), "{seen:?}");
    assert_eq!((seen.status(1), seen.status(3), seen.status(5)), (200, 200, 0), "{seen:?}");
    assert!(seen.is_answered(1) && seen.is_answered(3), "{seen:?}");
    assert!(upstream.received().iter().all(|request| !request.first.contains("/late")));
    let seen = idle.until(|_| false);
    assert_eq!((seen.goaway.map(|(_, code)| code), seen.is_closed()), (Some(NO_ERROR), true));
    assert!(half.until(|_| false).is_closed(), "{:?}", half.seen);
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(3));
}

/// Section 6.8.
#[test]
fn an_idle_connection_is_told_that_it_ends_and_a_busy_one_is_let_be() {
    let timeout = Duration::from_millis(300);
    let node = open_node(&slow(1200), |settings| settings.keep_alive_timeout = timeout);
    let mut client = Client::start(&node);
    client.write(&get(1, "/slow"));
    let seen = client.answer(1);
    assert_eq!((seen.status(1), seen.goaway), (200, None), "{seen:?}");
    let mut unused = Client::start(&node);
    for client in [&mut client, &mut unused] {
        let began = Instant::now();
        let seen = client.until(|_| false);
        assert!(seen.is_closed(), "{seen:?}");
        assert_eq!(seen.goaway.map(|(_, code)| code), Some(NO_ERROR), "{seen:?}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

/// What comes in two pieces is no request either.
#[test]
fn a_connection_that_says_nothing_but_ping_is_idle() {
    let timeout = Duration::from_millis(300);
    let node = open_node(&Upstream::hello(), |settings| settings.keep_alive_timeout = timeout);
    let mut client = Client::start(&node);
    let ping = frame(PING, 0, 0, &[0; 8]);
    let patience = Instant::now() + Duration::from_secs(3);
    while client.seen.goaway.is_none() {
        assert!(Instant::now() < patience, "{:?}", client.seen);
        client.write(&ping[..10]);
        thread::sleep(Duration::from_millis(2));
        client.write(&ping[10..]);
        client.settle(50);
    }
}

/// Section 6.8.
#[test]
fn a_client_that_says_it_ends_is_still_answered() {
    let node = open_node(&slow(200), |_| {});
    let mut client = Client::start(&node);
    client.write(&[get(1, "/slow"), frame(GOAWAY, 0, 0, &[0; 8])].concat());
    let seen = client.answer(1);
    assert_eq!((seen.status(1), seen.size(1), seen.error()), (200, 5, None), "{seen:?}");
}
