//! Whatever is committed and whenever nodes leave, they end up with what the store holds.

use std::time::Duration;

use fastgate::node::v1::Namespace;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    World, id, key,
    model::{Node, Side, Step, Stream},
    namespaces,
};
use crate::{
    domain,
    domain::{Expect, Op},
};

/// Things that may happen.
#[derive(Clone, Debug)]
enum Act {
    /// Puts or deletes these keys, in one revision each.
    Key(u8),
    /// Puts several keys in one revision.
    Keys(Vec<u8>),
    Upstream(u8),
    /// The node leaves and comes back with what it holds.
    Reconnect,
    /// The node takes one step, if one comes.
    Take,
    /// The node refuses one step, if one comes.
    Refuse,
    /// The control plane starts anew, without memory.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..12u8).prop_map(Act::Key),
        2 => vec(0..12u8, 1..4).prop_map(Act::Keys),
        3 => (0..6u8).prop_map(Act::Upstream),
        2 => Just(Act::Reconnect),
        4 => Just(Act::Take),
        1 => Just(Act::Refuse),
        1 => Just(Act::Restart),
    ]
}

#[test]
fn a_node_ends_up_with_what_the_store_holds() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The same runs every time: a failure is one to look into, not one to run again.
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = runner.run(&vec(act(), 1..60), |acts| {
        runtime.block_on(run(acts));
        Ok(())
    });
    ran.expect("holds");
}

async fn run(acts: Vec<Act>) {
    let mut world = World::start().await;
    let mut stream = Node::new("default").connect(&world.plane).await;
    for act in acts {
        match act {
            Act::Key(n) => toggle_key(&world, n).await,
            Act::Keys(names) => put_keys(&world, names).await,
            Act::Upstream(n) => toggle_upstream(&world, n).await,
            Act::Reconnect => stream = stream.leave().connect(&world.plane).await,
            Act::Take => {
                if let Some(step) = soon(&mut stream).await {
                    stream.hold(&step).await;
                }
            }
            Act::Refuse => match soon(&mut stream).await {
                Some(Step::Delta(delta)) => drop(stream.nack(delta.ns(), delta.to).await),
                Some(Step::Snapshot(ns, side)) => drop(stream.nack(ns, side.revision).await),
                _ => {}
            },
            Act::Restart => {
                world.restart().await;
                stream = stream.leave().connect(&world.plane).await;
            }
        }
    }
    // Revisions beyond any that was refused.
    toggle_key(&world, 99).await;
    toggle_upstream(&world, 99).await;
    for ns in namespaces() {
        let (head, side) = stored(&world, ns).await;
        stream.take(ns, side.revision).await;
        assert_eq!(stream.node.side(ns), side);
        assert_eq!(side.digest(), head);
    }
}

/// The next step, if one is on its way.
async fn soon(stream: &mut Stream) -> Option<Step> {
    let step = tokio::time::timeout(Duration::from_millis(50), stream.step());
    step.await.ok()
}

async fn toggle_key(world: &World, n: u8) {
    let name = format!("k{n}");
    let is_there = world.store.key(&id("default"), &name).await.expect("reads").is_some();
    let op = if is_there && n.is_multiple_of(2) {
        Op::DeleteKey(id(&name), Expect::Present)
    } else {
        Op::PutKey(key(&name), if is_there { Expect::Present } else { Expect::Absent })
    };
    world.commit("default", vec![op]).await;
}

async fn put_keys(world: &World, mut names: Vec<u8>) {
    names.sort_unstable();
    names.dedup();
    let mut ops = Vec::new();
    for n in names {
        let name = format!("k{n}");
        let is_there = world.store.key(&id("default"), &name).await.expect("reads").is_some();
        let expect = if is_there { Expect::Present } else { Expect::Absent };
        ops.push(Op::PutKey(key(&name), expect));
    }
    world.commit("default", ops).await;
}

async fn toggle_upstream(world: &World, n: u8) {
    let name = format!("u{n}");
    let is_there = world.store.upstream(&id("default"), &name).await.expect("reads").is_some();
    let op = if is_there {
        Op::DeleteUpstream(id(&name), Expect::Present)
    } else {
        super::put_upstream(&name)
    };
    world.commit("default", vec![op]).await;
}

/// What the store holds of a namespace, and the digest it says that has.
async fn stored(world: &World, ns: Namespace) -> (fastgate::digest::Digest, Side) {
    let of =
        if ns == Namespace::Keys { domain::Namespace::Keys } else { domain::Namespace::Config };
    let (head, entities) =
        world.store.entities(&id("default"), of).await.expect("reads").expect("is there");
    let mut side = Side { epoch: head.epoch, revision: head.revision, ..Side::default() };
    entities.into_iter().for_each(|entity| side.insert(entity));
    (head.digest, side)
}
