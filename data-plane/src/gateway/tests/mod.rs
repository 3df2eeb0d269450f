//! Drives a listening node against a real upstream on loopback.

mod node;

use node::{Node, Upstream, key, route};

#[test]
fn a_request_with_a_key_gets_the_upstreams_answer() {
    let upstream = Upstream::hello();
    let (record, secret) = key("k1", &[]);
    let node = Node::start(vec![route("r1", "/api", &upstream)], vec![record]);
    let answer =
        node.send(&format!("GET /api/x?q=1 HTTP/1.1\r\nhost: a.b\r\nx-api-key: {secret}\r\n\r\n"));
    assert_eq!((answer.status, &*answer.body), (200, "hello"));
    assert!(answer.header("x-request-id").is_some());
    let received = upstream.last();
    assert_eq!(received.first, "GET /api/x?q=1 HTTP/1.1");
    assert_eq!(received.header("x-api-key"), None);
    assert_eq!(received.header("x-source-path"), Some("mobile_app"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-host"), Some("a.b"));
    assert_eq!(received.header("host"), Some(&*upstream.address.to_string()));
}
