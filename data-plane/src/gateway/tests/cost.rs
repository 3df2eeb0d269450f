//! What a request costs on a warm connection.

use super::node::{Node, Upstream, get, key, route};

/// Heap allocations of a request with a key, limits and a stripped prefix. Whoever needs more says
/// why; whoever needs less writes it down.
const ALLOCATIONS: u64 = 4;

/// A node that gives each request all its work, and the secret of a key.
pub(super) fn node(upstream: &Upstream) -> (Node, String) {
    let (record, secret) = key("k1", &[]);
    let stripped = fastgate::admin::v1::Route {
        strip_prefix: true,
        rate_limit: Some(1_000_000),
        ..route("r1", "/api", upstream)
    };
    (Node::start(vec![stripped], vec![record]), secret)
}

/// Heap allocations of the usual request: the patrol and timers allocate now and then.
pub(super) fn usual(node: &Node, mut send: impl FnMut()) -> u64 {
    let mut allocations = || {
        send();
        node.event();
        node.allocations()
    };
    for _ in 0..100 {
        allocations();
    }
    let counts: Vec<_> = (0..101).map(|_| allocations()).collect();
    let mut costs: Vec<_> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    costs.sort_unstable();
    let usual = costs[costs.len() / 2];
    println!("{usual} heap allocations a request: {costs:?}");
    usual
}

#[test]
fn a_request_allocates_no_more_than_it_did() {
    let upstream = Upstream::hello();
    let (node, secret) = node(&upstream);
    let mut client = node.connect();
    let request = get("/api/things?a=b", &format!("x-api-key: {secret}\r\nuser-agent: test"));
    let usual = usual(&node, || assert_eq!(client.send(&request).status, 200));
    assert!(usual <= ALLOCATIONS, "{usual} heap allocations a request");
}
