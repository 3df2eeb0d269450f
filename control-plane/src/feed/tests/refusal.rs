//! What a node refuses, or gets wrong.

use fastgate::{
    digest::Digest,
    node::v1::{Namespace, Refusal},
};
use tonic::Code;

use super::{
    World,
    model::{Node, Step, Stream},
};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

/// A world, and a node that follows it.
async fn following() -> (World, Stream) {
    let world = World::start().await;
    let stream = Node::new("default").follow(&world.plane).await;
    (world, stream)
}

/// The next step, a delta.
async fn delta(stream: &mut Stream) -> fastgate::node::v1::Delta {
    match stream.step().await {
        Step::Delta(delta) => delta,
        step => panic!("{step:?}"),
    }
}

#[tokio::test]
async fn a_refused_revision_is_not_sent_again_and_the_next_builds_upon_what_is_held() {
    let (world, mut stream) = following().await;
    let held = stream.node.revision(CONFIG);
    let bad = world.add_upstream("up").await;
    assert_eq!(delta(&mut stream).await.to, bad);
    stream.nack(CONFIG, bad).await;
    for _ in 0..2 {
        let step = stream.next().await;
        assert!(matches!(&step, Step::Heartbeat(beat) if beat.config_revision == bad), "{step:?}");
    }
    let listed = world.plane.feed.nodes(None).remove(0);
    assert_eq!(listed.last_nack, format!("revision {bad}: upstream up: targets: is odd"));
    assert_eq!((listed.config_revision, listed.config_lag), (held, bad - held));

    // Keys go on meanwhile.
    let revision = world.add_key("k1").await;
    stream.take(KEYS, revision).await;

    let good = world.add_upstream("up2").await;
    let step = stream.step().await;
    stream.hold(&step).await;
    let Step::Delta(delta) = step else { panic!("{step:?}") };
    assert_eq!((delta.ns(), delta.from, delta.to), (CONFIG, held, good));
    assert_eq!(world.sent().0, 2, "no snapshot but the first of each namespace");
}

#[tokio::test]
async fn a_node_that_says_what_it_refused_is_not_sent_that_by_another_control_plane() {
    let (mut world, mut stream) = following().await;
    let bad = world.add_upstream("up").await;
    assert_eq!(delta(&mut stream).await.to, bad);
    let refusal = stream.nack(CONFIG, bad).await;
    let mut node = stream.leave();
    node.refused = Some(refusal);
    world.restart().await;
    let mut stream = node.connect(&world.plane).await;
    for _ in 0..2 {
        let step = stream.next().await;
        assert!(matches!(&step, Step::Heartbeat(_)), "{step:?}");
    }
    let listed = world.plane.feed.nodes(None).remove(0);
    assert_eq!(listed.refusal.map(|refusal| refusal.revision), Some(bad));
    let good = world.add_upstream("up2").await;
    stream.take(CONFIG, good).await;
}

#[tokio::test]
async fn what_was_refused_of_another_epoch_holds_nothing_back() {
    let (world, mut stream) = following().await;
    let bad = world.add_upstream("up").await;
    assert_eq!(delta(&mut stream).await.to, bad);
    let refusal = stream.nack(CONFIG, bad).await;
    let mut node = stream.leave();
    node.refused = Some(Refusal { epoch: "another".into(), ..refusal });
    node.connect(&world.plane).await.take(CONFIG, bad).await;
}

/// A backup was restored: the number that was refused is of nothing any more, and comes again with something
/// else.
#[tokio::test]
async fn what_was_refused_and_then_lost_holds_nothing_back() {
    let (world, mut stream) = following().await;
    let kept = world.add_upstream("up").await;
    stream.take(CONFIG, kept).await;
    let restored = world.restored().await;
    let behind = stream.node.clone().named("behind");
    let lost = world.add_upstream("lost").await;
    stream.take(CONFIG, lost).await;
    let bad = world.add_upstream("bad").await;
    assert_eq!(delta(&mut stream).await.to, bad);
    let refusal = stream.nack(CONFIG, bad).await;
    let node = Node { refused: Some(refusal.clone()), ..stream.leave() };
    let behind = Node { refused: Some(refusal), ..behind };

    let mut stream = node.connect(&restored.plane).await;
    let step = stream.step().await;
    assert!(matches!(&step, Step::Snapshot(CONFIG, side) if side.revision == kept), "{step:?}");
    stream.hold(&step).await;
    let mut behind = behind.connect(&restored.plane).await;
    behind.heartbeat().await;
    for revision in [lost, bad] {
        restored.add_upstream(&format!("again{revision}")).await;
        for stream in [&mut stream, &mut behind] {
            let step = stream.step().await;
            assert!(matches!(&step, Step::Delta(delta) if delta.to == revision), "{step:?}");
            stream.hold(&step).await;
        }
    }
    assert_eq!(restored.set_backs(), 1);
}

#[tokio::test]
async fn a_refusal_of_what_was_not_sent_holds_nothing_back() {
    let (world, mut stream) = following().await;
    stream.nack(CONFIG, u64::MAX).await;
    let revision = world.add_upstream("up").await;
    stream.take(CONFIG, revision).await;
}

#[tokio::test]
async fn a_refused_snapshot_is_followed_by_one_of_the_next_revision() {
    let world = World::start().await;
    let mut stream = Node::new("default").connect(&world.plane).await;
    stream.take(KEYS, 0).await;
    let Step::Snapshot(CONFIG, first) = stream.step().await else { panic!("a snapshot") };
    stream.nack(CONFIG, first.revision).await;
    stream.heartbeat().await;
    let revision = world.add_upstream("up").await;
    let step = stream.step().await;
    assert!(matches!(&step, Step::Snapshot(CONFIG, s) if s.revision == revision), "{step:?}");
}

#[tokio::test]
async fn an_acknowledgement_that_does_not_fit_brings_everything_once() {
    let (world, mut stream) = following().await;
    let revision = world.add_key("k1").await;
    let sent = delta(&mut stream).await;
    stream.ack(KEYS, sent.to, Digest::default()).await;
    let step = stream.step().await;
    assert!(matches!(&step, Step::Snapshot(KEYS, s) if s.revision == revision), "{step:?}");
    assert_eq!(world.plane.feed.shared.counts.digest_mismatches.get(), 1);
    stream.hold(&step).await;
    let revision = world.add_key("k2").await;
    assert_eq!(delta(&mut stream).await.to, revision);

    // The right digest of another revision.
    let (digest, revision) = (stream.node.side(KEYS).digest(), stream.node.revision(KEYS));
    stream.ack(KEYS, revision, digest).await;
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(KEYS, _)), "{step:?}");
}

#[tokio::test]
async fn a_node_that_gets_a_snapshot_wrong_is_sent_away() {
    let world = World::start().await;
    world.add_key("k1").await;
    world.settle().await;
    let mut stream = Node::new("default").connect(&world.plane).await;
    let Step::Snapshot(KEYS, side) = stream.step().await else { panic!("keys first") };
    stream.ack(KEYS, side.revision, Digest::default()).await;
    assert_eq!(stream.end().await, Some(Code::DataLoss));
    assert_eq!(world.sent().0, 2, "one of each namespace");
}

#[tokio::test]
async fn what_comes_during_a_step_comes_in_one_after_it() {
    let (world, mut stream) = following().await;
    let first = world.add_key("k1").await;
    let step = stream.step().await;
    for name in ["k2", "k3", "k4"] {
        world.add_key(name).await;
    }
    world.settle().await;
    stream.heartbeat().await;
    stream.hold(&step).await;
    let next = delta(&mut stream).await;
    assert_eq!((next.from, next.to), (first, first + 3));
}
