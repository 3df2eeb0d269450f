//! What a request costs on a warm connection.

use super::{
    super::{cost, node::Upstream},
    client::{Client, END_HEADERS, END_STREAM, HEADERS, frame, head},
};

/// Heap allocations of a request with a key, limits and a stripped prefix. Whoever needs more says
/// why; whoever needs less writes it down.
const ALLOCATIONS: u64 = 4;

#[test]
fn a_request_allocates_no_more_than_it_did() {
    let upstream = Upstream::hello();
    let (node, secret) = cost::node(&upstream);
    let mut client = Client::start(&node);
    let fields = [("x-api-key", &*secret), ("user-agent", "test")];
    let block = head("GET", "/api/things?a=b", &fields);
    let mut stream = 1;
    let usual = cost::usual(&node, || {
        stream += 2;
        client.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
        assert_eq!(client.answer(stream).status(stream), 200);
    });
    assert!(usual <= ALLOCATIONS, "{usual} heap allocations a request");
}
