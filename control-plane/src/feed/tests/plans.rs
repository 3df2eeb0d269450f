//! A plan on its way to nodes: it travels alone, whatever keys are on it.

use fastgate::node::v1::{EntityKind, Namespace, change::Change};

use super::{
    World,
    model::{Node, Step},
};
use crate::{
    domain::{Expect, Op},
    store::tests::samples::{on_plan, put_plan},
};

const KEYS: usize = 1000;

#[tokio::test]
async fn a_changed_plan_of_a_thousand_keys_is_sent_as_one_entity() {
    let world = World::start().await;
    let keys = (0..KEYS).map(|n| Op::PutKey(on_plan(&format!("k{n}"), "gold"), Expect::Absent));
    let ops = [put_plan("gold", 60)].into_iter().chain(keys).collect();
    world.commit("default", ops).await;
    world.settle().await;
    let mut stream = Node::new("default").follow(&world.plane).await;
    let keys = stream.node.side(Namespace::Keys);
    assert_eq!(keys.entities.len(), KEYS);

    let Op::PutPlan(plan, _) = put_plan("gold", 120) else { panic!("puts a plan") };
    world.commit("default", vec![Op::PutPlan(plan, Expect::Present)]).await;
    let step = stream.step().await;
    stream.hold(&step).await;
    let Step::Delta(delta) = step else { panic!("{step:?}") };
    assert_eq!((delta.ns(), delta.to - delta.from), (Namespace::Config, 1));
    let [one] = delta.changes.as_slice() else { panic!("{} changes", delta.changes.len()) };
    let Some(Change::Upsert(entity)) = &one.change else { panic!("{one:?}") };
    assert_eq!((entity.kind(), entity.id.as_str()), (EntityKind::Plan, "gold"));
    stream.heartbeat().await;
    stream.heartbeat().await;
    assert_eq!(world.sent(), (2, 1), "and nothing after it");
    assert_eq!(stream.node.side(Namespace::Keys), keys);
}
