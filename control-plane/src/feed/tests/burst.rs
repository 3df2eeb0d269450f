//! How soon a change is at a node.

use std::time::{Duration, Instant};

use fastgate::node::v1::Namespace;

use super::{
    World,
    model::{Node, Step},
};

const CHANGES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_at_the_node_at_once() {
    let world = World::start().await;
    let mut stream = Node::new("default").follow(&world.plane).await;
    let mut took = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let revision = world.add_key(&format!("k{n}")).await;
        let committed = Instant::now();
        let step = stream.step().await;
        took.push(committed.elapsed());
        assert!(matches!(&step, Step::Delta(delta) if delta.to == revision), "{step:?}");
        stream.hold(&step).await;
    }
    took.sort_unstable();
    let (p50, p99) = (took[CHANGES / 2], took[CHANGES * 99 / 100]);
    println!("from commit to node: p50 {p50:?}, p99 {p99:?}, of {CHANGES} changes");
    // Far below the poll of a second: the store's word reaches the node, not the next poll.
    assert!(p99 < Duration::from_millis(250), "p99 {p99:?}");
    assert_eq!(stream.node.side(Namespace::Keys).entities.len(), CHANGES);
}
