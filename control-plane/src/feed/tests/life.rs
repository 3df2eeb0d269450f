//! Streams over time: who else is there, who takes over, and how they end.

use std::time::Duration;

use fastgate::node::v1::{Namespace, Status, node_message::Body};
use tonic::Code;

use super::{
    World, environment, id,
    model::{Node, Step},
    namespaces,
};
use crate::domain::{Expect, Op};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

#[tokio::test]
async fn environments_do_not_see_each_other() {
    let world = World::start().await;
    world.add_environment("staging").await;
    world.settle().await;
    let mut here = Node::new("default").follow(&world.plane).await;
    let mut there = Node::new("staging").follow(&world.plane).await;
    assert_ne!(here.node.side(KEYS).epoch, there.node.side(KEYS).epoch);

    let revision = world.add_key("k1").await;
    here.take(KEYS, revision).await;
    let sent = world.sent();
    let beat = there.heartbeat().await;
    assert_eq!(
        (beat.keys_revision, beat.node_count),
        (0, 1),
        "one node, for all its name is taken"
    );
    there.heartbeat().await;
    assert_eq!(world.sent(), sent);
    assert!(there.node.side(KEYS).entities.is_empty());
}

#[tokio::test]
async fn an_environment_that_cannot_be_read_holds_up_no_other() {
    let mut world = World::start().await;
    world.add_environment("broken").await;
    world.commit("broken", vec![Op::PutKey(super::key("k1"), Expect::Absent)]).await;
    world.meddle("UPDATE api_keys SET entity = 5 WHERE environment = 'broken'").await;
    world.restart().await;
    let mut here = Node::new("default").follow(&world.plane).await;
    let revision = world.add_key("k1").await;
    here.take(KEYS, revision).await;
    assert_eq!(world.plane.feed.caught_up(), None, "it is told that not all was read");
    let mut there = Node::new("broken").connect(&world.plane).await;
    assert_eq!(there.end().await, Some(Code::Unavailable));
}

#[tokio::test]
async fn a_newer_stream_of_a_node_ends_the_older() {
    let world = World::start().await;
    let mut older = Node::new("default").follow(&world.plane).await;
    let mut newer = older.node.clone().connect(&world.plane).await;
    assert_eq!(older.end().await, Some(Code::Aborted));
    assert_eq!(newer.heartbeat().await.node_count, 1);
    let revision = world.add_key("k1").await;
    newer.take(KEYS, revision).await;
    let listed = world.plane.feed.nodes(None);
    assert_eq!(listed.len(), 1);
    assert!(listed[0].connected, "the end of the older stream is not that of the node");
}

#[tokio::test]
async fn heartbeats_tell_heads_and_nodes() {
    let world = World::start().await;
    let (keys, config) = (world.add_key("k1").await, world.add_upstream("up").await);
    world.settle().await;
    let mut first = Node::new("default").follow(&world.plane).await;
    assert_eq!(first.heartbeat().await.node_count, 1);
    let second = Node::new("default").named("n2").follow(&world.plane).await;
    let mut beat = first.heartbeat().await;
    if beat.node_count == 1 {
        // It was on its way already.
        beat = first.heartbeat().await;
    }
    assert_eq!((beat.keys_revision, beat.config_revision, beat.node_count), (keys, config, 2));
    drop(second);
    while first.heartbeat().await.node_count != 1 {}
}

#[tokio::test]
async fn a_node_is_listed_with_what_it_said() {
    let world = World::start().await;
    world.add_key("k1").await;
    world.settle().await;
    let mut stream = Node::new("default").connect(&world.plane).await;
    stream.take(KEYS, 1).await;
    let status = Status {
        events_produced: 7,
        events_dropped: 2,
        events_stored: 4,
        events_spooled: 1,
        events_left: 5,
        spool_bytes: 100,
        spool_limit: 1000,
        spool_full: true,
        limits_state: "local".into(),
        ..Status::default()
    };
    stream.wire.say(Body::Status(status)).await;
    stream.heartbeat().await;
    stream.heartbeat().await;
    let listed = world.plane.feed.nodes(Some(&id("default"))).remove(0);
    assert_eq!((&*listed.node_id, &*listed.boot_id, listed.connected), ("n1", "boot-1", true));
    assert_eq!((listed.keys_revision, listed.keys_lag), (1, 0));
    assert_eq!((listed.events_produced, listed.events_dropped), (7, 2));
    assert_eq!((listed.events_stored, listed.events_spooled, listed.events_left), (4, 1, 5));
    assert_eq!((listed.spool_bytes, listed.spool_limit, listed.spool_full), (100, 1000, true));
    assert_eq!(listed.limits_state, "local");
    assert!(world.plane.feed.nodes(Some(&id("staging"))).is_empty());
}

#[tokio::test]
async fn a_node_of_another_epoch_counts_as_far_behind() {
    let world = World::start().await;
    world.add_key("k1").await;
    world.settle().await;
    let mut node = Node::new("default").follow(&world.plane).await.leave();
    let side = node.sides.get_mut(&KEYS.into()).expect("held");
    (side.epoch, side.revision) = ("another".into(), 900);
    let mut stream = node.connect(&world.plane).await;
    stream.step().await;
    let listed = world.plane.feed.nodes(None).remove(0);
    assert_eq!((listed.keys_revision, listed.keys_lag), (0, 1));
}

#[tokio::test]
async fn a_stop_drains_every_stream() {
    let world = World::start().await;
    let mut stream = Node::new("default").follow(&world.plane).await;
    world.plane.stop.cancel();
    assert_eq!(stream.step().await, Step::Drain);
    assert_eq!(stream.step().await, Step::End(None));
}

#[tokio::test]
async fn a_deleted_environment_ends_its_streams_and_comes_back_as_another() {
    let world = World::start().await;
    world.add_environment("staging").await;
    world.settle().await;
    let mut stays = Node::new("default").follow(&world.plane).await;
    let mut stream = Node::new("staging").follow(&world.plane).await;
    let before = stream.node.side(CONFIG);
    world.commit("staging", vec![Op::DeleteEnvironment(Expect::Present)]).await;
    assert_eq!(stream.end().await, Some(Code::NotFound));
    let node = stream.leave();
    assert_eq!(node.clone().connect(&world.plane).await.end().await, Some(Code::NotFound));

    world.add_environment("staging").await;
    world.settle().await;
    let stream = node.connect(&world.plane).await;
    let mut stream = stream;
    for ns in namespaces() {
        let step = stream.step().await;
        let Step::Snapshot(of, side) = &step else { panic!("{step:?}") };
        assert_eq!(*of, ns);
        assert_ne!(side.epoch, before.epoch);
        stream.hold(&step).await;
    }
    let revision = world.add_key("k1").await;
    stays.take(KEYS, revision).await;
}

#[tokio::test]
async fn an_environment_made_anew_at_once_is_sent_anew() {
    let world = World::start().await;
    world.add_environment("staging").await;
    world.settle().await;
    let mut stream = Node::new("staging").follow(&world.plane).await;
    let epoch = stream.node.side(CONFIG).epoch;
    world.commit("staging", vec![Op::DeleteEnvironment(Expect::Present)]).await;
    world.commit("staging", vec![Op::PutEnvironment(environment("staging"), Expect::Absent)]).await;
    // Whether the feed saw it gone in between is chance.
    let anew = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            match stream.step().await {
                Step::End(code) => {
                    assert_eq!(code, Some(Code::NotFound));
                    world.settle().await;
                    stream = stream.node.connect(&world.plane).await;
                }
                step => {
                    stream.hold(&step).await;
                    if stream.node.side(CONFIG).epoch != epoch {
                        return;
                    }
                }
            }
        }
    });
    anew.await.expect("comes");
}
