//! Several control planes on one store.

use std::time::{Duration, Instant};

use fastgate::node::v1::Namespace;

use super::{
    Plane, World,
    model::{Node, Step},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_counts_and_lists_the_nodes_of_all() {
    let world = World::start().await;
    let other = Plane::start(&world.store).await;
    let revisions = world.store.heads().await.expect("reads");
    let mut first = Node::new("default").follow(&world.plane).await;
    let mut second = Node::new("default").named("n2").follow(&other).await;
    let begun = Instant::now();
    while first.heartbeat().await.node_count != 2 {}
    while second.heartbeat().await.node_count != 2 {}
    println!("both know of each other after {:?}", begun.elapsed());
    for plane in [&world.plane, &other] {
        let listed = plane.feed.nodes(None);
        let listed: Vec<_> = listed.iter().map(|n| (&*n.node_id, n.connected)).collect();
        assert_eq!(listed, [("n1", true), ("n2", true)]);
    }
    assert_eq!(world.store.heads().await.expect("reads"), revisions);

    drop(second);
    let begun = Instant::now();
    while first.heartbeat().await.node_count != 1 {}
    println!("one knows that the other went after {:?}", begun.elapsed());
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "it was told, long before it had to assume so"
    );
    assert!(!world.plane.feed.nodes(None)[1].connected);
}

/// It would go on to tell its nodes that all is well, while another one knows of a revocation.
#[tokio::test]
async fn one_that_has_lost_the_store_sends_nodes_on_once_and_serves_who_comes_back() {
    let world = World::start().await;
    let lost = Plane::start(&world.store).await;
    let mut with_it = Node::new("default").follow(&lost).await;
    let mut elsewhere = Node::new("default").named("n2").follow(&world.plane).await;
    lost.reader.abort();
    let begun = Instant::now();
    assert_eq!(with_it.step().await, Step::Drain);
    println!("sent on after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));

    let revision = world.add_key("k1").await;
    let mut back = with_it.leave().connect(&lost).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        let step = back.next().await;
        assert!(matches!(step, Step::Heartbeat(_)), "{step:?}");
    }
    let mut served = back.leave().connect(&world.plane).await;
    served.take(Namespace::Keys, revision).await;
    elsewhere.take(Namespace::Keys, revision).await;
    let step = elsewhere.next().await;
    assert!(matches!(step, Step::Heartbeat(_)), "who has it sends nobody on: {step:?}");
}

/// An environment was deleted and made anew, and this one can't read that: a node that was with another one
/// must not serve the keys of the first again.
#[tokio::test]
async fn one_that_cannot_read_the_store_leads_nobody_back_to_an_earlier_epoch() {
    let world = World::start().await;
    world.add_key("k1").await;
    let other = Plane::start(&world.store).await;
    let node = Node::new("default").follow(&other).await.leave();
    other.reader.abort();
    let of_epoch = |name: &str, epoch: &str| {
        let mut node = node.clone().named(name);
        node.sides.values_mut().for_each(|side| (side.epoch, side.revision) = (epoch.into(), 1));
        node
    };
    // They are UUIDs of version 7: this one is of a year to come.
    let mut later = of_epoch("n2", "ffffffff00007000800000000000000f").connect(&other).await;
    for _ in 0..3 {
        let step = later.next().await;
        assert!(matches!(step, Step::Heartbeat(_)), "{step:?}");
    }
    let mut earlier = of_epoch("n3", "00000000000070008000000000000000").connect(&other).await;
    let step = earlier.step().await;
    assert!(matches!(step, Step::Snapshot(Namespace::Keys, _)), "{step:?}");
}

/// What the node holds is not what it should be, so it is to have all anew: but not as it was before.
#[tokio::test]
async fn nor_one_that_distrusts_what_it_holds_to_an_earlier_revision() {
    let world = World::start().await;
    let other = Plane::start(&world.store).await;
    drop(Node::new("default").follow(&other).await);
    other.reader.abort();
    let revision = world.add_key("k1").await;
    let mut stream = Node::new("default").follow(&world.plane).await;
    stream.take(Namespace::Keys, revision).await;
    let node = stream.leave();
    let mut hello = node.hello();
    let mut held = hello.held.iter_mut();
    held.find(|held| held.ns() == Namespace::Keys).expect("they are held").digest.clear();

    let mut blind = node.clone().connect_with(&other, hello.clone()).await;
    for _ in 0..3 {
        let step = blind.next().await;
        assert!(matches!(step, Step::Heartbeat(_)), "{step:?}");
    }
    let mut sighted = node.connect_with(&world.plane, hello).await;
    let Step::Snapshot(Namespace::Keys, keys) = sighted.step().await else { panic!("no keys") };
    assert_eq!(keys.entities.len(), 1);
}
