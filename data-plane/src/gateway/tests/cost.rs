//! What a request costs on a warm connection.

use super::node::{Node, Upstream, get, key, route};

/// Heap allocations of a request with a key, limits and a stripped prefix. Whoever needs more says
/// why; whoever needs less writes it down. Two are for X-Source-Path, which a key has as text.
const ALLOCATIONS: u64 = 23;

#[test]
fn a_request_allocates_no_more_than_it_did() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &[]);
    let stripped = fastgate::admin::v1::Route {
        strip_prefix: true,
        rate_limit: Some(1_000_000),
        ..route("r1", "/api", &upstream)
    };
    let node = Node::start(vec![stripped], vec![record]);
    let mut client = node.connect();
    let request = get("/api/things?a=b", &format!("x-api-key: {secret}\r\nuser-agent: test"));
    let mut send = || {
        assert_eq!(client.send(&request).status, 200);
        node.event();
        node.allocations()
    };
    for _ in 0..100 {
        send();
    }
    // The patrol and timers allocate now and then: the usual request counts.
    let counts: Vec<_> = (0..101).map(|_| send()).collect();
    let mut costs: Vec<_> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    costs.sort_unstable();
    let usual = costs[costs.len() / 2];
    println!("{usual} heap allocations a request");
    assert!(usual <= ALLOCATIONS, "{usual} heap allocations a request: {costs:?}");
}
