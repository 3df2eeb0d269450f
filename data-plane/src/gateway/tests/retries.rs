//! What happens when an upstream fails.

use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use super::node::{Node, Upstream, dead_target, get, open_route};

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";

/// Fails the first requests in a way, and answers the rest.
fn failing(times: usize, how: &'static str) -> Upstream {
    let seen = AtomicUsize::new(0);
    Upstream::scripted(move |_, stream| {
        let fails = seen.fetch_add(1, SeqCst) < times;
        let answer = if fails { how } else { "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" };
        stream.write_all(answer.as_bytes()).is_ok() && !answer.is_empty()
    })
}

#[test]
fn a_dead_target_costs_no_client_an_error_whatever_the_method() {
    let upstream = Upstream::hello();
    let mut route = open_route(&upstream);
    route.targets.push(dead_target());
    let node = Node::start(vec![route], vec![]);
    for _ in 0..50 {
        assert_eq!(node.send(&get("/", "")).status, 200);
        assert_eq!(node.send(POST).status, 200);
    }
    assert_eq!(upstream.last().body, "hi");
}

#[test]
fn without_a_live_target_the_answer_is_502() {
    let upstream = Upstream::hello();
    let mut route = open_route(&upstream);
    route.targets = vec![dead_target()];
    let node = Node::start(vec![route], vec![]);
    assert_eq!(node.send(&get("/", "")).status, 502);
}

#[test]
fn resets_and_gateway_troubles_are_tried_again_only_where_that_is_safe() {
    let unavailable = "HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\nno";
    let fault = "HTTP/1.1 500 Fault\r\ncontent-length: 2\r\n\r\nno";
    let no_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    for (times, how, request, status, sent) in [
        (1, "", get("/", ""), 200, 2),
        (2, "", get("/", ""), 502, 2),
        (1, "", POST.into(), 502, 1),
        (1, "garbage\r\n\r\n", get("/", ""), 200, 2),
        (1, no_chunk, get("/", ""), 200, 2),
        (2, no_chunk, get("/", ""), 502, 2),
        (1, no_chunk, POST.into(), 502, 1),
        (1, unavailable, get("/", ""), 200, 2),
        (2, unavailable, get("/", ""), 503, 2),
        (1, unavailable, POST.into(), 503, 1),
        (1, fault, get("/", ""), 500, 1),
    ] {
        let upstream = failing(times, how);
        let node = Node::start(vec![open_route(&upstream)], vec![]);
        assert_eq!(node.send(&request).status, status, "{times} {how:?} {request:?}");
        assert_eq!(upstream.received().len(), sent, "{times} {how:?} {request:?}");
        let event = node.event();
        assert_eq!((event.status.as_u16(), event.attempts as usize), (status, sent), "{how:?}");
    }
}

#[test]
fn a_pooled_connection_closed_by_the_upstream_costs_no_attempt() {
    let upstream = Upstream::scripted(|_, stream| {
        // Says nothing of closing, and closes.
        drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
        false
    });
    let mut route = open_route(&upstream);
    route.retry_count = Some(0);
    let node = Node::start(vec![route], vec![]);
    for _ in 0..20 {
        assert_eq!(node.send(&get("/", "")).status, 200);
    }
}

#[test]
fn connections_to_the_upstream_are_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let upstream =
            Upstream::scripted(move |_, stream| stream.write_all(answer.as_bytes()).is_ok());
        let node = Node::start(vec![open_route(&upstream)], vec![]);
        let mut client = node.connect();
        for _ in 0..20 {
            assert!([200, 204].contains(&client.send(&get("/", "")).status), "{answer:?}");
            client.send(POST);
        }
        assert_eq!(upstream.connections(), 1, "{answer:?}");
    }
}

#[test]
fn a_slow_upstream_ends_as_504_at_its_deadline() {
    let slow = || {
        Upstream::scripted(|_, _| {
            thread::sleep(Duration::from_secs(5));
            false
        })
    };
    for (route_timeout, target_timeout) in [(Some(0.3), None), (None, Some(0.3))] {
        let upstream = slow();
        let mut route = open_route(&upstream);
        route.timeout = route_timeout;
        route.targets[0].timeout = target_timeout;
        let node = Node::start(vec![route], vec![]);
        for request in [&*get("/", ""), POST] {
            let began = Instant::now();
            assert_eq!(node.send(request).status, 504);
            let took = began.elapsed().as_millis();
            assert!((290..1000).contains(&took), "{took} ms");
        }
    }
}
