//! Nodes of another version: what one of version 1 says (`proto/tests/v1`), what an older one leaves out, and what
//! a newer one may add.

use fastgate::node::v1::{
    Answer, EntityError, Held, Hello, Nack, Namespace, NodeMessage, Refusal, Status,
    node_message::Body,
};
use prost::Message as _;

use super::{
    World,
    model::{Node, Stream},
    namespaces,
};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

/// What a node of version 1 says beside its hello, none of it asked for.
const VERSION_1: [&[u8]; 5] = [
    include_bytes!("../../../../proto/tests/v1/status.bin"),
    include_bytes!("../../../../proto/tests/v1/answer_limits.bin"),
    include_bytes!("../../../../proto/tests/v1/answer_explanation.bin"),
    include_bytes!("../../../../proto/tests/v1/answer_holding.bin"),
    include_bytes!("../../../../proto/tests/v1/answer_fault.bin"),
];

fn read(bytes: &[u8]) -> Body {
    NodeMessage::decode(bytes).expect("a message").body.expect("a body")
}

fn hello() -> Hello {
    match read(include_bytes!("../../../../proto/tests/v1/hello.bin")) {
        Body::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

/// A stream that has heard this, of a node that holds nothing.
async fn greeted(world: &World, hello: Hello) -> Stream {
    let wire = world.plane.dial().await;
    let node = Node::new(&hello.environment).named(&hello.node_id);
    wire.say(Body::Hello(hello)).await;
    node.on(wire)
}

/// Everything there is reaches the node, and so does what changes then.
async fn is_served(world: &World, stream: &mut Stream) {
    for ns in namespaces() {
        stream.take(ns, 0).await;
    }
    let revision = world.add_key("k9").await;
    stream.take(KEYS, revision).await;
    let revision = world.add_upstream("u9").await;
    stream.take(CONFIG, revision).await;
    let listed = world.plane.feed.nodes(None).remove(0);
    assert!(listed.connected && listed.config_revision <= revision, "{listed:?}");
}

#[tokio::test]
async fn a_node_of_version_1_is_served() {
    let world = World::start().await;
    let mut stream = greeted(&world, hello()).await;
    for said in VERSION_1 {
        stream.wire.say(read(said)).await;
    }
    is_served(&world, &mut stream).await;
    let listed = world.plane.feed.nodes(None).remove(0);
    assert_eq!((&*listed.node_id, &*listed.version), ("n1", "0.1.0"));
    assert_eq!(listed.labels, ["tier=canary"]);
}

#[tokio::test]
async fn a_node_that_lacks_what_came_later_is_served() {
    let world = World::start().await;
    let Hello { node_id, boot_id, version, environment, .. } = hello();
    let first = Hello { node_id, boot_id, version, environment, ..Hello::default() };
    let mut stream = greeted(&world, first).await;
    stream.wire.say(Body::Status(Status::default())).await;
    is_served(&world, &mut stream).await;
}

#[tokio::test]
async fn what_a_newer_node_adds_is_passed_over() {
    let world = World::start().await;
    let mut newer = hello();
    let unknown = 77;
    newer.held.push(Held { ns: unknown, epoch: "e1".into(), ..Held::default() });
    let nack = Nack { ns: unknown, revision: 5, errors: Vec::new() };
    newer.refused.extend([Refusal::default(), Refusal { epoch: "e1".into(), nack: Some(nack) }]);
    let mut stream = greeted(&world, newer).await;
    for _ in 0..3 {
        stream.wire.outbound.send(NodeMessage { body: None }).await.expect("the stream is open");
    }
    stream.wire.say(Body::Answer(Answer { question_id: 5, ..Answer::default() })).await;
    is_served(&world, &mut stream).await;

    // A refusal of something only that node knows is one all the same.
    let bad = world.add_upstream("u10").await;
    let step = stream.step().await;
    let errors = vec![EntityError { kind: unknown, id: "x".into(), ..EntityError::default() }];
    let nack = Nack { ns: CONFIG.into(), revision: bad, errors };
    stream.wire.say(Body::Nack(nack)).await;
    stream.heartbeat().await;
    stream.heartbeat().await;
    let listed = world.plane.feed.nodes(None).remove(0);
    assert!(listed.last_nack.starts_with(&format!("revision {bad}: ")), "{step:?}: {listed:?}");
}
