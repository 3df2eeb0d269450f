//! Several control planes on one store.

use std::time::{Duration, Instant};

use super::{Plane, World, model::Node};

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
