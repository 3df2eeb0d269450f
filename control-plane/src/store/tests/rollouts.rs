//! Changes that reach nodes ring by ring: when that begins, who moves it on, how it is taken back.

use std::{collections::BTreeMap, sync::Arc};

use fastgate::{admin::v1, node::v1::Entity};

use super::samples::{commit, id, key, on_plan, put_plan};
use crate::{
    domain::{
        Actor, Environment, Expect, Namespace, Op, Rollout, RolloutPolicy, RolloutPosition,
        RolloutState, Route, Upstream,
    },
    store::{Head, Page, RolloutMove, Store, StoreError},
};

type Db = Arc<dyn Store>;

/// Two rings: `canary`, and the rest.
pub(crate) fn policy() -> RolloutPolicy {
    let ring = |name: &str, labels: &[&str]| v1::Ring {
        name: name.into(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        share: None,
    };
    let rings = vec![ring("canary", &["tier=canary"]), ring("rest", &[])];
    let wire = v1::RolloutPolicy { rings, ..v1::RolloutPolicy::default() };
    RolloutPolicy::parse(wire).expect("a policy")
}

/// Says how changes of the environment `default` reach nodes.
pub(crate) fn put_policy(rollout: Option<RolloutPolicy>) -> Op {
    let environment = Environment { rollout, ..Environment::new(id("default")) };
    Op::PutEnvironment(environment, Expect::Present)
}

fn actor() -> Actor {
    Actor { token_id: "rollout".into() }
}

/// Moves a rollout on from where it is.
pub(crate) async fn go(store: &Db, ring: usize, state: RolloutState) -> Rollout {
    let from = rollout(store).await.expect("one").at;
    let to = RolloutPosition { ring, state, ..from };
    let moves =
        RolloutMove { from, to, reason: "it failed", actor: &actor(), action: "stopped: x" };
    assert!(store.move_rollout(&id("default"), moves).await.expect("writes"));
    rollout(store).await.expect("one")
}

async fn rollout(store: &Db) -> Option<Rollout> {
    store.rollout(&id("default")).await.expect("reads")
}

async fn put(store: &Db, op: Op) -> u64 {
    let committed = commit(store, vec![op]).await.expect("commits");
    committed.config_revision.expect("a revision")
}

async fn config_head(store: &Db) -> Head {
    let heads = store.heads().await.expect("reads");
    let is_it = |head: &Head| head.environment == id("default") && head.ns == Namespace::Config;
    heads.into_iter().find(is_it).expect("is there")
}

fn at(rollout: &Rollout) -> (u64, u64, usize, RolloutState) {
    let RolloutPosition { target, ring, state } = rollout.at;
    (rollout.base, target, ring, state)
}

pub(super) async fn a_change_begins_at_the_first_ring_and_another_begins_it_anew(store: Db) {
    use RolloutState::{Done, Paused, Running};
    let base = put(&store, put_policy(Some(policy()))).await;
    assert_eq!(rollout(&store).await, None, "that changed nothing for nodes");
    let first = put(&store, put_plan("a", 1)).await;
    let begun = rollout(&store).await.expect("begun");
    assert_eq!(at(&begun), (base, first, 0, Running));
    assert_eq!(begun.policy, policy().model);
    let head = config_head(&store).await;
    assert_eq!((head.revision, head.rollout.as_ref()), (first, Some(&begun)));
    let (read, _) =
        store.entities(&id("default"), Namespace::Config).await.expect("reads").expect("is there");
    assert_eq!(read, head);
    commit(&store, vec![Op::PutKey(key("k1"), Expect::Absent)]).await.expect("commits");
    assert_eq!(rollout(&store).await, Some(begun.clone()), "keys have nothing to do with it");

    let moved = go(&store, 1, Running).await;
    assert_eq!(at(&moved), (base, first, 1, Running));
    let late = RolloutMove {
        from: begun.at,
        to: begun.at.with(Paused),
        reason: "",
        actor: &actor(),
        action: "",
    };
    assert!(!store.move_rollout(&id("default"), late).await.expect("reads"), "it moved on");
    assert_eq!(rollout(&store).await, Some(moved));
    let second = put(&store, put_plan("b", 1)).await;
    assert_eq!(at(&rollout(&store).await.expect("anew")), (base, second, 0, Running));
    go(&store, 1, Paused).await;
    let third = put(&store, put_plan("c", 1)).await;
    assert_eq!(at(&rollout(&store).await.expect("anew")), (base, third, 0, Paused));
    go(&store, 1, Done).await;
    let fourth = put(&store, put_plan("d", 1)).await;
    assert_eq!(at(&rollout(&store).await.expect("begun")), (third, fourth, 0, Running));

    put(&store, put_policy(None)).await;
    let ended = rollout(&store).await.expect("remembered");
    assert_eq!((ended.at.state, ended.reason.as_str()), (Done, "the policy was taken away"));
    put(&store, put_plan("e", 1)).await;
    assert_eq!(rollout(&store).await, Some(ended), "as without any");
}

pub(super) async fn what_leads_back_ends_a_rollout(store: Db) {
    put(&store, put_policy(Some(policy()))).await;
    let target = put(&store, put_plan("a", 1)).await;
    put(&store, Op::DeletePlan(id("a"), Expect::Present)).await;
    let ended = rollout(&store).await.expect("remembered");
    assert_eq!((ended.at.target, ended.at.state), (target, RolloutState::Undone));
    assert!(!ended.is_active());
}

/// The config as nodes get it, by kind and id.
fn by_name(entities: Vec<Entity>) -> BTreeMap<(i32, String), Entity> {
    entities.into_iter().map(|entity| ((entity.kind, entity.id.clone()), entity)).collect()
}

async fn config_now(store: &Db) -> BTreeMap<(i32, String), Entity> {
    let found = store.entities(&id("default"), Namespace::Config).await.expect("reads");
    by_name(found.expect("is there").1)
}

fn upstream(name: &str, port: u16) -> Box<Upstream> {
    let url = format!("http://127.0.0.1:{port}");
    let targets = vec![v1::Target { url, ..v1::Target::default() }];
    let wire = v1::Upstream { upstream_id: name.into(), targets, ..v1::Upstream::default() };
    Box::new(Upstream::parse(wire).expect("an upstream"))
}

fn route(name: &str, upstream: &str) -> Box<Route> {
    let wire = v1::Route {
        route_id: name.into(),
        path_prefix: format!("/{name}"),
        upstream: upstream.into(),
        ..v1::Route::default()
    };
    Box::new(Route::parse(wire).expect("a route"))
}

pub(super) async fn a_rollout_is_taken_back_to_what_it_began_from(store: Db) {
    let before = vec![
        Op::PutUpstream(upstream("one", 1), Expect::Absent),
        Op::PutUpstream(upstream("two", 2), Expect::Absent),
        Op::PutRoute(route("a", "one"), Expect::Absent),
        put_plan("gold", 1),
    ];
    commit(&store, before).await.expect("commits");
    let base = put(&store, put_policy(Some(policy()))).await;
    let (config, digest) = (config_now(&store).await, config_head(&store).await.digest);
    let settings = Environment {
        description: "for people".into(),
        default_rate_limit: Some(7),
        rollout: Some(policy()),
        ..Environment::new(id("default"))
    };
    let changes = [
        vec![
            Op::PutUpstream(upstream("one", 9), Expect::Present),
            Op::DeleteRoute(id("a"), Expect::Present),
            Op::DeletePlan(id("gold"), Expect::Present),
            Op::PutEnvironment(settings, Expect::Present),
        ],
        vec![
            Op::PutUpstream(upstream("three", 3), Expect::Absent),
            Op::PutRoute(route("b", "three"), Expect::Absent),
            put_plan("silver", 1),
        ],
    ];
    for ops in changes {
        commit(&store, ops).await.expect("commits");
    }
    let then = store.config_entities_at(&id("default"), base).await.expect("reads");
    assert_eq!(by_name(then.expect("reaches back")), config);
    assert_eq!(store.config_entities_at(&id("default"), 1_000).await.expect("reads"), None);

    let stopped = go(&store, 0, RolloutState::Stopped).await;
    let (target, other) = (stopped.at.target, stopped.at.target - 1);
    let undo = async |target| store.undo_rollout(&id("default"), target, &actor()).await;
    assert!(!undo(other).await.expect("reads"), "that is not the one under way");
    assert!(undo(target).await.expect("commits"));
    assert_eq!(config_now(&store).await, config);
    let head = config_head(&store).await;
    assert_eq!((head.revision, head.digest), (target + 1, digest));
    let ended = rollout(&store).await.expect("remembered");
    assert_eq!((ended.at.state, ended.reason.as_str()), (RolloutState::RolledBack, "it failed"));
    assert!(!undo(target).await.expect("reads"), "it is over");
    let environment = store.environment("default").await.expect("reads").expect("is there").object;
    assert_eq!((&*environment.description, environment.rollout), ("for people", Some(policy())));

    let history = store.revisions(&id("default"), None, 1).await.expect("reads").remove(0);
    let action = "fastgate.admin.v1.RolloutService/UndoRollout";
    assert_eq!((&*history.token_id, &*history.action), ("rollout", action));
    let page = Page { after: None, limit: 100 };
    let events = store.admin_events(Some("default"), &page).await.expect("reads");
    let mut of_it = events.iter().filter(|(_, event)| event.token_id == "rollout");
    assert!(of_it.any(|(_, e)| (&*e.kind, &*e.action) == ("rollout", "stopped: x")), "{events:?}");
}

pub(super) async fn what_cannot_be_taken_back_stays_as_it_is(store: Db) {
    put(&store, put_policy(Some(policy()))).await;
    let target = put(&store, put_plan("gold", 1)).await;
    let on_it = Op::PutKey(on_plan("k1", "gold"), Expect::Absent);
    commit(&store, vec![on_it]).await.expect("commits");
    let before = store.heads().await.expect("reads");
    let undone = store.undo_rollout(&id("default"), target, &actor()).await;
    assert!(matches!(&undone, Err(StoreError::PlanInUse { .. })), "{undone:?}");
    assert_eq!(store.heads().await.expect("reads"), before);
}

pub(super) async fn of_several_that_move_a_rollout_on_one_does(store: Db) {
    put(&store, put_policy(Some(policy()))).await;
    put(&store, put_plan("a", 1)).await;
    let from = rollout(&store).await.expect("one").at;
    let movers = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let to = RolloutPosition { ring: 1, ..from };
            let moves = RolloutMove { from, to, reason: "", actor: &actor(), action: "ring rest" };
            store.move_rollout(&id("default"), moves).await.expect("writes")
        })
    });
    let moved = futures_util::future::join_all(movers).await;
    assert_eq!(moved.into_iter().filter(|moved| *moved.as_ref().expect("ends")).count(), 1);
    let undoers = (0..4).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store.undo_rollout(&id("default"), from.target, &actor()).await.expect("writes")
        })
    });
    let undone = futures_util::future::join_all(undoers).await;
    assert_eq!(undone.into_iter().filter(|undone| *undone.as_ref().expect("ends")).count(), 1);
}
