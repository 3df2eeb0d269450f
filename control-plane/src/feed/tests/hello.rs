//! The first message of a stream, and those that may not come.

use fastgate::node::v1::{Ack, Hello, Namespace, NodeMessage, Status, node_message::Body};
use tonic::Code;

use super::{Wire, World, model::Node};

type Spoil = fn(&mut Hello);

/// What a stream ends with once `said` was said on it.
async fn ending(world: &World, said: Vec<Option<Body>>) -> (Code, String) {
    let Wire { outbound, mut inbound } = world.plane.dial().await;
    for body in said {
        outbound.send(NodeMessage { body }).await.expect("open");
    }
    loop {
        match inbound.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a fault"),
            Err(status) => return (status.code(), status.message().to_owned()),
        }
    }
}

#[tokio::test]
async fn a_bad_hello_is_refused_by_its_field() {
    let world = World::start().await;
    let cases: [(Spoil, &str); 8] = [
        (|hello| hello.node_id.clear(), "node_id"),
        (|hello| hello.node_id = "n".repeat(129), "node_id"),
        (|hello| hello.node_id = "n\n1".into(), "node_id"),
        (|hello| hello.boot_id.clear(), "boot_id"),
        (|hello| hello.version = "\u{7f}".into(), "version"),
        (|hello| hello.environment.clear(), "environment"),
        (|hello| hello.environment = "No Such!".into(), "environment"),
        (|hello| hello.environment = "../x".into(), "environment"),
    ];
    for (spoil, field) in cases {
        let mut hello = Node::new("default").hello();
        spoil(&mut hello);
        let (code, told) = ending(&world, vec![Some(Body::Hello(hello))]).await;
        assert_eq!(code, Code::InvalidArgument, "{told}");
        assert!(told.starts_with(&format!("{field}: ")), "{told}");
    }
    assert!(world.plane.feed.nodes(None).is_empty());
}

#[tokio::test]
async fn an_unknown_environment_is_not_found() {
    let world = World::start().await;
    let hello = Node::new("nowhere").hello();
    let (code, told) = ending(&world, vec![Some(Body::Hello(hello))]).await;
    assert_eq!((code, &*told), (Code::NotFound, "environment 'nowhere' does not exist"));
    assert!(world.plane.feed.nodes(None).is_empty());
}

#[tokio::test]
async fn what_is_out_of_turn_is_refused() {
    let world = World::start().await;
    let hello = || Some(Body::Hello(Node::new("default").hello()));
    let ack = |ns: Namespace| Some(Body::Ack(Ack { ns: ns.into(), ..Ack::default() }));
    let cases = [
        (vec![ack(Namespace::Keys)], "the first message must be a hello"),
        (vec![Some(Body::Status(Status::default()))], "the first message must be a hello"),
        (vec![None], "the first message must be a hello"),
        (vec![hello(), hello()], "hello: was sent already on this stream"),
        (vec![hello(), ack(Namespace::Unspecified)], "ns: is missing"),
        (vec![hello(), None, hello()], "hello: was sent already on this stream"),
    ];
    for (said, fault) in cases {
        assert_eq!(ending(&world, said).await, (Code::InvalidArgument, fault.to_owned()));
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_hello_is_refused() {
    let world = World::start().await;
    let Wire { outbound, mut inbound } = world.plane.dial().await;
    drop(outbound);
    let status = inbound.message().await.expect_err("is refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}
