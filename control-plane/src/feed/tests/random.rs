//! Whatever is committed and whenever nodes leave, they end up with what the store holds.

use std::time::Duration;

use fastgate::node::v1::{EntityKind, Namespace};
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
    /// The log forgets all but the last few revisions, and so does the control plane.
    Compact,
    /// The environment is deleted and made anew.
    Anew,
    /// A backup is made.
    Backup,
    /// The last backup is restored, where there is one.
    Restore,
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
        1 => Just(Act::Compact),
        1 => Just(Act::Anew),
        1 => Just(Act::Backup),
        1 => Just(Act::Restore),
    ]
}

#[test]
fn a_node_ends_up_with_what_the_store_holds() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The same runs every time: a failure is one to look into, not one to run again.
    let config = Config { cases: 20, failure_persistence: None, ..Config::default() };
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
    let mut backup = None;
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
                Some(Step::Delta(delta)) => {
                    stream.node.refused = Some(stream.nack(delta.ns(), delta.to).await);
                }
                Some(Step::Snapshot(ns, side)) => {
                    stream.node.refused = Some(stream.nack(ns, side.revision).await);
                }
                _ => {}
            },
            Act::Restart => {
                world.restart().await;
                stream = stream.leave().connect(&world.plane).await;
            }
            Act::Compact => {
                world.forget_log().await;
                world.restart().await;
                stream = stream.leave().connect(&world.plane).await;
            }
            Act::Anew => {
                make_anew(&world).await;
                stream = stream.leave().connect(&world.plane).await;
            }
            Act::Backup => backup = Some(world.restored().await),
            Act::Restore => {
                if let Some(restored) = backup.take() {
                    world = restored;
                    stream = stream.leave().connect(&world.plane).await;
                    if stream.node.refused.is_some() {
                        a_while(&mut stream).await;
                    }
                }
            }
        }
    }
    // Revisions that nobody has refused.
    toggle_key(&world, 99).await;
    toggle_upstream(&world, 99).await;
    for ns in namespaces() {
        let (head, side) = stored(&world, ns).await;
        while stream.node.side(ns) != side {
            let step = stream.step().await;
            stream.hold(&step).await;
        }
        assert_eq!(side.digest(), head);
    }
}

/// Takes what comes, for long enough that the control plane knows that what was refused is lost. Until then
/// the number could come again, and nothing would tell.
async fn a_while(stream: &mut Stream) {
    let mut heartbeats = 0;
    while heartbeats < 4 {
        match stream.next().await {
            Step::Heartbeat(_) => heartbeats += 1,
            step => stream.hold(&step).await,
        }
    }
}

/// Deletes the environment with all that is in it, and makes it anew.
async fn make_anew(world: &World) {
    let here = id("default");
    let mut ops = Vec::new();
    for ns in namespaces() {
        let (_, side) = stored(world, ns).await;
        for (kind, name) in side.entities.into_keys() {
            match EntityKind::try_from(kind).expect("a kind") {
                EntityKind::Key => ops.push(Op::DeleteKey(id(&name), Expect::Present)),
                EntityKind::Upstream => ops.push(Op::DeleteUpstream(id(&name), Expect::Present)),
                _ => {}
            }
        }
    }
    ops.push(Op::DeleteEnvironment(Expect::Present));
    world.commit("default", ops).await;
    world.add_environment("default").await;
    let (_, side) = stored(world, Namespace::Config).await;
    loop {
        let track = world.plane.feed.shared.track(&here, domain::Namespace::Config);
        let published = track.and_then(|track| track.borrow().clone());
        if published.is_some_and(|published| published.head.epoch == side.epoch) {
            return world.settle().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
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
