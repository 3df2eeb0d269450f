//! A node that comes back gets what it missed; one whose state does not fit gets everything.

use fastgate::node::v1::Namespace;

use super::{
    World, key,
    model::{Node, Side, Step},
    namespaces,
};
use crate::domain::{self, Expect, Op};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

type Spoil = fn(&mut Side);

/// A world, and a node that has followed it up to its head: three keys, one upstream.
async fn followed() -> (World, Node) {
    let world = World::start().await;
    for name in ["k1", "k2", "k3"] {
        world.add_key(name).await;
    }
    world.add_upstream("up").await;
    world.settle().await;
    let node = Node::new("default").follow(&world.plane).await.leave();
    assert_eq!(world.sent(), (2, 0), "a new node gets everything");
    (world, node)
}

#[tokio::test]
async fn a_node_that_missed_nothing_is_sent_nothing() {
    let (world, node) = followed().await;
    let mut stream = node.connect(&world.plane).await;
    stream.heartbeat().await;
    stream.heartbeat().await;
    assert_eq!(world.sent(), (2, 0));
}

#[tokio::test]
async fn missed_revisions_come_as_one_delta_of_the_last_of_each_object() {
    let (world, node) = followed().await;
    let from = node.revision(KEYS);
    let mut changed = key("k4");
    world.add_key("k4").await;
    changed.is_active = false;
    world.commit("default", vec![Op::PutKey(changed.clone(), Expect::Present)]).await;
    world.commit("default", vec![Op::DeleteKey(super::id("k1"), Expect::Present)]).await;
    world.add_key("k5").await;
    world.commit("default", vec![Op::DeleteKey(super::id("k5"), Expect::Present)]).await;
    world.settle().await;

    let track = world.plane.feed.shared.track(&super::id("default"), domain::Namespace::Keys);
    let memory = track.expect("is there").borrow().clone().expect("is there");
    let steps = memory.head.steps_after(from).map(|steps| steps.len());
    assert_eq!(steps, Some(5), "followed step by step, never read anew");

    let mut stream = node.connect(&world.plane).await;
    let step = stream.step().await;
    stream.hold(&step).await;
    let Step::Delta(delta) = step else { panic!("{step:?}") };
    assert_eq!((delta.ns(), delta.from, delta.to), (KEYS, from, from + 5));
    assert_eq!(delta.changes.len(), 3, "k4 as it is now, k1 gone, k5 gone");
    let names: Vec<_> = stream.node.side(KEYS).entities.into_keys().map(|(_, id)| id).collect();
    assert_eq!(names, ["k2", "k3", "k4"]);
    assert_eq!(world.sent(), (2, 1));
}

#[tokio::test]
async fn what_memory_no_longer_holds_comes_as_a_delta_from_the_log() {
    let (mut world, node) = followed().await;
    let from = node.revision(KEYS);
    world.add_key("k4").await;
    world.add_key("k5").await;
    world.restart().await;
    let mut stream = node.connect(&world.plane).await;
    stream.take(KEYS, from + 2).await;
    assert_eq!(world.sent(), (0, 1));

    // The same with steps in memory, but not as many as are missed.
    let mut node = stream.leave();
    world.add_key("k6").await;
    world.restart().await;
    world.settle().await;
    world.add_key("k7").await;
    world.settle().await;
    let mut stream = node.clone().connect(&world.plane).await;
    stream.take(KEYS, from + 4).await;
    assert_eq!(world.sent(), (0, 1));

    // The log says that it holds something else.
    spoil(&mut node, KEYS, |side| drop(side.entities.pop_first()));
    let mut stream = node.connect(&world.plane).await;
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(KEYS, _)), "{step:?}");
}

fn spoil(node: &mut Node, ns: Namespace, spoil: impl FnOnce(&mut Side)) {
    spoil(node.sides.get_mut(&ns.into()).expect("held"));
}

#[tokio::test]
async fn a_state_that_does_not_fit_is_replaced() {
    let (mut world, node) = followed().await;
    // Behind by one, at the end of what a control plane started just now remembers.
    world.restart().await;
    world.settle().await;
    world.add_key("k4").await;
    world.settle().await;
    let cases: [(&str, Spoil); 5] = [
        ("of another epoch", |side| side.epoch.push('x')),
        ("with another digest", |side| drop(side.entities.pop_first())),
        ("ahead", |side| side.revision += 5),
        ("ahead of everything", |side| side.revision = u64::MAX),
        ("with another digest at the head", |side| side.revision += 1),
    ];
    for (at, (what, case)) in cases.into_iter().enumerate() {
        let mut node = node.clone().named(&format!("n{at}"));
        spoil(&mut node, KEYS, case);
        let mut stream = node.connect(&world.plane).await;
        let step = stream.step().await;
        assert!(matches!(step, Step::Snapshot(KEYS, _)), "{what}: {step:?}");
        stream.hold(&step).await;
        let revision = world.add_key(&format!("more-{at}")).await;
        let step = stream.step().await;
        assert!(matches!(&step, Step::Delta(delta) if delta.to == revision), "{what}: {step:?}");
    }
}

#[tokio::test]
async fn a_digest_of_another_length_counts_as_nothing_held() {
    let (world, node) = followed().await;
    let wire = world.plane.dial().await;
    let mut hello = node.hello();
    hello.held.iter_mut().for_each(|held| held.digest.truncate(15));
    wire.say(fastgate::node::v1::node_message::Body::Hello(hello)).await;
    let mut stream = node.on(wire);
    for ns in namespaces() {
        let step = stream.step().await;
        assert!(matches!(step, Step::Snapshot(of, _) if of == ns), "{step:?}");
    }
}

#[tokio::test]
async fn a_gap_beyond_what_is_caught_up_ends_in_a_snapshot() {
    let (mut world, node) = followed().await;
    for _ in 0..1025 {
        world.commit("default", vec![Op::PutKey(key("k1"), Expect::Present)]).await;
    }
    world.settle().await;
    let mut stream = node.clone().connect(&world.plane).await;
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(KEYS, _)), "{step:?}");
    drop(stream);

    world.restart().await;
    let mut stream = node.connect(&world.plane).await;
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(KEYS, _)), "{step:?}");
}

#[tokio::test]
async fn what_is_missed_of_many_keys_comes_from_the_log_in_parts() {
    let (mut world, node) = followed().await;
    let many = (0..1200).map(|n| Op::PutKey(key(&format!("many{n}")), Expect::Absent));
    world.commit("default", many.collect()).await;
    world.settle().await;
    let mut stream = node.follow(&world.plane).await;
    stream.take(KEYS, 4).await;
    let node = stream.leave();
    for _ in 0..1100 {
        world.commit("default", vec![Op::PutKey(key("k1"), Expect::Present)]).await;
    }
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        world.settle().await;
        let before = world.sent();
        let mut stream = node.clone().connect(&world.plane).await;
        stream.take(KEYS, 4 + 1100).await;
        assert_eq!(world.sent(), (before.0, before.1 + 2), "restarted: {restarted}");
    }
}

#[tokio::test]
async fn keys_imported_meanwhile_come_in_messages_of_bounded_size() {
    let (mut world, mut node) = followed().await;
    let from = node.revision(KEYS);
    // Some 2.5 MiB each: one fits into a message, two do not.
    for batch in 0..3 {
        world.commit("default", (0..500).map(|at| big_key(batch * 500 + at)).collect()).await;
    }
    world.settle().await;
    // First from memory, then from the log.
    for deltas in [3, 3] {
        let mut stream = node.clone().connect(&world.plane).await;
        for revision in from + 1..=from + 3 {
            let step = stream.step().await;
            assert!(matches!(&step, Step::Delta(delta) if delta.to == revision), "{step:?}");
            stream.hold(&step).await;
        }
        assert_eq!(stream.node.side(KEYS).entities.len(), 1503);
        assert_eq!(world.sent().1, deltas);
        world.restart().await;
        node = node.named("another");
    }
}

#[tokio::test]
async fn changes_too_large_for_one_message_come_in_chunks() {
    let (world, node) = followed().await;
    // Some 5 KiB each, in two revisions, within the count of changes one delta may hold.
    for batch in 0..2 {
        world.commit("default", (0..1000).map(|at| big_key(batch * 1000 + at)).collect()).await;
    }
    world.settle().await;
    let mut stream = node.follow(&world.plane).await;
    let revision = world.add_upstream("up2").await;
    stream.take(CONFIG, revision).await;
    let side = stream.node.side(KEYS);
    if side.entities.len() < 2003 {
        stream.take(KEYS, side.revision + 1).await;
    }
    assert_eq!(stream.node.side(KEYS).entities.len(), 2003);
    assert_eq!(world.sent().0, 3, "by a snapshot");
}

/// Some 5 KiB.
fn big_key(at: usize) -> Op {
    let mut key = key(&format!("big-{at}"));
    key.permissions = (0..64).map(|n| format!("p{n:02}{}", "x".repeat(60))).collect();
    Op::PutKey(key, Expect::Absent)
}
