//! A rollout as nodes see it: each has what its ring may have, keys at once.

use fastgate::node::v1::Namespace;

use super::{
    World,
    model::{Node, Step, Stream},
};
use crate::{
    domain::{Actor, RolloutState},
    store::tests::{
        rollouts::{go, policy, put_policy},
        samples::id,
    },
};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

fn canary() -> Node {
    Node { labels: vec!["tier=canary".into()], ..Node::new("default").named("canary") }
}

fn other() -> Node {
    Node::new("default").named("other")
}

/// A world with two rings, and a node of each that has all there is.
async fn two_rings() -> (World, Stream, Stream, u64) {
    let world = World::start().await;
    world.add_upstream("up").await;
    let committed = world.commit("default", vec![put_policy(Some(policy()))]).await;
    let base = committed.config_revision.expect("a revision");
    world.settle().await;
    let (canary, other) = (canary().follow(&world.plane).await, other().follow(&world.plane).await);
    assert_eq!((canary.node.revision(CONFIG), other.node.revision(CONFIG)), (base, base));
    (world, canary, other, base)
}

/// Whether a node holds an upstream.
fn holds(stream: &Stream, upstream: &str) -> bool {
    stream.node.side(CONFIG).entities.keys().any(|(_, id)| id == upstream)
}

/// Two heartbeats and nothing else.
async fn nothing_comes(stream: &mut Stream, revision: u64) {
    for _ in 0..2 {
        let step = stream.next().await;
        assert!(
            matches!(&step, Step::Heartbeat(beat) if beat.config_revision == revision),
            "{step:?}"
        );
    }
}

#[tokio::test]
async fn the_next_ring_gets_a_change_when_the_rollout_gets_there_and_keys_at_once() {
    let (world, mut canary, mut other, base) = two_rings().await;
    let target = world.add_upstream("new").await;
    canary.take(CONFIG, target).await;
    nothing_comes(&mut other, base).await;
    let keys = world.add_key("k1").await;
    canary.take(KEYS, keys).await;
    other.take(KEYS, keys).await;
    go(&world.store, 1, RolloutState::Running).await;
    let step = other.step().await;
    assert!(matches!(&step, Step::Delta(delta) if (delta.from, delta.to) == (base, target)));
    other.hold(&step).await;
    assert!(holds(&canary, "new") && holds(&other, "new"));
    let sent = world.sent();
    assert_eq!(sent.0, 4, "no snapshot but the first of each namespace and node");
}

#[tokio::test]
async fn a_node_that_comes_meanwhile_gets_what_its_ring_may_have() {
    let (mut world, _canary, _other, base) = two_rings().await;
    let target = world.add_upstream("new").await;
    for restarted in [false, true] {
        if restarted {
            // What the rollout began from is in nobody's memory any more.
            world.restart().await;
        }
        world.settle().await;
        let late = other().named("late").follow(&world.plane).await;
        assert_eq!((late.node.revision(CONFIG), holds(&late, "new")), (base, false));
        let late = Node { labels: vec!["tier=canary".into()], ..other().named("late-canary") };
        let late = late.follow(&world.plane).await;
        assert_eq!((late.node.revision(CONFIG), holds(&late, "new")), (target, true));
    }
    // One that missed something before the rollout gets that much.
    let mut behind = other().named("behind");
    let first = other().named("behind").follow(&world.plane).await.leave();
    behind.sides = first.sides;
    assert_eq!(behind.follow(&world.plane).await.node.revision(CONFIG), base);
}

#[tokio::test]
async fn a_stopped_change_is_taken_from_those_that_have_it_and_others_never_get_it() {
    let (world, mut canary, mut other, base) = two_rings().await;
    let target = world.add_upstream("bad").await;
    canary.take(CONFIG, target).await;
    go(&world.store, 0, RolloutState::Stopped).await;
    let step = canary.step().await;
    assert!(matches!(&step, Step::Snapshot(CONFIG, side) if side.revision == base), "{step:?}");
    canary.hold(&step).await;
    nothing_comes(&mut other, base).await;

    let actor = Actor { token_id: "rollout".into() };
    assert!(world.store.undo_rollout(&id("default"), target, &actor).await.expect("commits"));
    for stream in [&mut canary, &mut other] {
        stream.take(CONFIG, target + 1).await;
        assert!(!holds(stream, "bad"));
    }
    assert_eq!(world.set_backs(), 0, "nothing is lost");
}

#[tokio::test]
async fn another_change_begins_anew_and_who_had_the_first_goes_back() {
    let (world, mut canary, mut other, base) = two_rings().await;
    let first = world.add_upstream("first").await;
    canary.take(CONFIG, first).await;
    go(&world.store, 1, RolloutState::Running).await;
    other.take(CONFIG, first).await;
    let second = world.add_upstream("second").await;
    canary.take(CONFIG, second).await;
    let step = other.step().await;
    assert!(matches!(&step, Step::Snapshot(CONFIG, side) if side.revision == base), "{step:?}");
    other.hold(&step).await;
    assert!(!holds(&other, "first") && holds(&canary, "first") && holds(&canary, "second"));
    go(&world.store, 1, RolloutState::Done).await;
    other.take(CONFIG, second).await;
    assert!(holds(&other, "first") && holds(&other, "second"));
    assert_eq!(world.set_backs(), 0, "nothing is lost");
}
