//! Plans, and the keys on them.

use std::sync::Arc;

use fastgate::{
    admin::v1,
    node::v1::{Delta, EntityKind, change::Change},
};
use prost::Message as _;

use super::samples::{change, commit, id, on_plan, put_plan};
use crate::{
    domain::{Change as Commit, Environment, Expect, Namespace, Op, Plan},
    store::{KeyFilter, Page, Store, StoreError},
};

type Db = Arc<dyn Store>;

fn put_key(name: &str, plan: &str) -> Op {
    Op::PutKey(on_plan(name, plan), Expect::Absent)
}

fn delete_plan(name: &str) -> Op {
    Op::DeletePlan(id(name), Expect::Present)
}

/// The revisions of `keys` and `config`.
async fn revisions(store: &Db) -> Vec<(Namespace, u64)> {
    let heads = store.heads().await.expect("reads");
    heads.into_iter().map(|head| (head.ns, head.revision)).collect()
}

pub(super) async fn a_plan_reads_back_as_it_was_written(store: Db) {
    let wire = v1::Plan {
        plan_id: "gold".into(),
        description: "for people".into(),
        rate_limit: Some(60),
        rate_limit_fallback: "closed".into(),
        ..v1::Plan::default()
    };
    let written = Plan::parse(wire).expect("a plan");
    let put = Op::PutPlan(Box::new(written.clone()), Expect::Absent);
    let committed = commit(&store, vec![put.clone()]).await.expect("commits");
    assert_eq!((committed.keys_revision, committed.config_revision), (None, Some(2)));
    let stored = store.plan(&id("default"), "gold").await.expect("reads").expect("is there");
    assert_eq!((&stored.object, &stored.etag), (&written, &committed.etags[0]));
    let twice = commit(&store, vec![put]).await;
    assert!(matches!(twice, Err(StoreError::Exists { kind: "plan", .. })), "{twice:?}");
    let all = Page { after: None, limit: 10 };
    let listed = store.plans(&id("default"), &all).await.expect("reads");
    assert_eq!(listed, std::slice::from_ref(&stored));
    assert_eq!(store.config(&id("default")).await.expect("reads").plans, [stored]);
    commit(&store, vec![delete_plan("gold")]).await.expect("commits");
    assert_eq!(store.plan(&id("default"), "gold").await.expect("reads"), None);
}

pub(super) async fn a_key_is_put_on_a_plan_that_is_there(store: Db) {
    let before = revisions(&store).await;
    let unknown = commit(&store, vec![put_key("k1", "gold")]).await;
    assert!(
        matches!(&unknown, Err(StoreError::UnknownPlan { plan }) if plan == "gold"),
        "{unknown:?}"
    );
    assert_eq!(revisions(&store).await, before);
    assert_eq!(store.key(&id("default"), "k1").await.expect("reads"), None);
    // One change may hold both, in any order.
    commit(&store, vec![put_key("k1", "gold"), put_plan("gold", 60)]).await.expect("commits");
    commit(&store, vec![put_key("k2", "")]).await.expect("commits");
    let moved = Op::PutKey(on_plan("k1", "none"), Expect::Present);
    let unknown = commit(&store, vec![moved]).await;
    assert!(matches!(&unknown, Err(StoreError::UnknownPlan { .. })), "{unknown:?}");
    let of_plan = KeyFilter { plan_id: Some("gold".into()), ..KeyFilter::default() };
    let all = Page { after: None, limit: 10 };
    let found = store.keys(&id("default"), &of_plan, &all).await.expect("reads");
    let found: Vec<_> = found.iter().map(|(key, _)| &key.object).collect();
    assert_eq!(found.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(), ["k1"]);
    assert_eq!(found[0].plan_id, "gold");
}

pub(super) async fn a_plan_in_use_stays(store: Db) {
    commit(&store, vec![put_plan("gold", 60)]).await.expect("commits");
    // Keys alone are written many at a time.
    let keys = vec![put_key("k1", "gold"), put_key("k2", "gold")];
    commit(&store, keys).await.expect("commits");
    // A plan of the same name elsewhere is another one.
    let elsewhere = |ops| Commit { environment: id("staging"), ..change(ops) };
    let staging = Environment::new(id("staging"));
    let made = vec![Op::PutEnvironment(staging, Expect::Absent), put_plan("gold", 1)];
    store.commit(&elsewhere(made)).await.expect("commits");
    let in_use = store.commit(&elsewhere(vec![Op::DeleteEnvironment(Expect::Present)])).await;
    assert!(matches!(in_use, Err(StoreError::EnvironmentInUse { .. })), "{in_use:?}");
    store.commit(&elsewhere(vec![delete_plan("gold")])).await.expect("commits");

    let before = revisions(&store).await;
    let used = commit(&store, vec![delete_plan("gold")]).await.expect_err("in use");
    assert_eq!(used.to_string(), "plan 'gold' is used by 2 keys");
    let delete_key = |name| Op::DeleteKey(id(name), Expect::Present);
    let half = commit(&store, vec![delete_key("k1"), delete_plan("gold")]).await;
    assert_eq!(half.expect_err("in use").to_string(), "plan 'gold' is used by 1 key");
    assert_eq!(revisions(&store).await, before);
    assert!(store.plan(&id("default"), "gold").await.expect("reads").is_some());

    let off = Op::PutKey(on_plan("k2", ""), Expect::Present);
    let committed =
        commit(&store, vec![off, delete_key("k1"), delete_plan("gold")]).await.expect("commits");
    assert!(committed.keys_revision.is_some() && committed.config_revision.is_some());
}

pub(super) async fn deleting_a_plan_is_no_revision_of_keys(store: Db) {
    commit(&store, vec![put_plan("gold", 60), put_key("k1", "")]).await.expect("commits");
    let committed = commit(&store, vec![delete_plan("gold")]).await.expect("commits");
    assert_eq!((committed.keys_revision, committed.config_revision), (None, Some(3)));
    let head = |heads: Vec<crate::store::Head>| {
        heads.into_iter().find(|head| head.ns == Namespace::Keys).expect("is there").revision
    };
    assert_eq!(head(store.heads().await.expect("reads")), 1);
}

pub(super) async fn a_changed_plan_is_one_entity_however_many_keys_are_on_it(store: Db) {
    let keys = (0..1000).map(|n| put_key(&format!("k{n}"), "gold"));
    let ops = [put_plan("gold", 60)].into_iter().chain(keys).collect();
    commit(&store, ops).await.expect("commits");
    let Op::PutPlan(plan, _) = put_plan("gold", 120) else { panic!("puts a plan") };
    let changed = commit(&store, vec![Op::PutPlan(plan, Expect::Present)]).await.expect("commits");
    assert_eq!((changed.keys_revision, changed.config_revision), (None, Some(3)));
    let log = store.log(&id("default"), Namespace::Config, 2, 10).await.expect("reads");
    let delta = Delta::decode(log[0].delta.clone()).expect("a delta");
    let [one] = delta.changes.as_slice() else { panic!("{:?}", delta.changes) };
    let Some(Change::Upsert(entity)) = &one.change else { panic!("{one:?}") };
    assert_eq!((entity.kind(), entity.id.as_str()), (EntityKind::Plan, "gold"));
    assert!(delta.encoded_len() < 200, "{}", delta.encoded_len());
}

pub(super) async fn no_key_is_put_on_a_plan_that_goes(store: Db) {
    for n in 0..25 {
        let plan = format!("plan{n}");
        commit(&store, vec![put_plan(&plan, 60)]).await.expect("commits");
        let put = vec![Op::PutKey(on_plan(&format!("k{n}"), &plan), Expect::Absent)];
        let (put, delete) =
            tokio::join!(commit(&store, put), commit(&store, vec![delete_plan(&plan)]));
        let lost = if put.is_ok() { delete.err() } else { put.err() };
        assert!(
            matches!(lost, Some(StoreError::UnknownPlan { .. } | StoreError::PlanInUse { .. })),
            "{lost:?}"
        );
    }
    let all = Page { after: None, limit: 1000 };
    for (stored, _) in store.keys(&id("default"), &KeyFilter::default(), &all).await.expect("reads")
    {
        let plan = store.plan(&id("default"), &stored.object.plan_id).await.expect("reads");
        assert!(plan.is_some(), "{stored:?}");
    }
}
