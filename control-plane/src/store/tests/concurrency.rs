//! What must hold when many write at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastgate::{
    admin::v1::LogEvent,
    digest::Digest,
    node::v1::{self, Delta, Entity},
};
use futures_util::future::join_all;
use prost::Message as _;

use super::{
    events::{batch, event, is_new},
    samples::{change, commit, commit_change, environment, id, key, on_plan, put_plan},
};
use crate::{
    domain::{ApiKey, Change, Expect, Namespace, Object, Op, Plan, Rework},
    store::{News, Page, Store, StoreError},
};

const WRITERS: usize = 16;
const CHANGES: usize = 10;

pub(super) async fn revisions_have_no_gaps_and_lead_to_the_state(store: Arc<dyn Store>) {
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..CHANGES {
                let name = format!("k{writer}-{n}");
                let put = Op::PutKey(key(&name), Expect::Absent);
                commit(&store, vec![put]).await.expect("commits");
                if n % 3 == 0 {
                    let delete = Op::DeleteKey(id(&name), Expect::Present);
                    commit(&store, vec![delete]).await.expect("commits");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("writes");
    }

    log_leads_to_the_state(&store, (WRITERS * (CHANGES + CHANGES.div_ceil(3))) as u64).await;
}

/// Whether each of so many revisions of keys says what it changed, and what digest that leads to.
pub(super) async fn log_leads_to_the_state(store: &Arc<dyn Store>, revisions: u64) {
    let (head, entities) =
        store.entities(&id("default"), Namespace::Keys).await.expect("reads").expect("is there");
    assert_eq!(head.revision, revisions);
    assert_eq!(entities.iter().cloned().collect::<Digest>(), head.digest);

    let log = store.log(&id("default"), Namespace::Keys, 0, 10_000).await.expect("reads");
    let mut replayed: BTreeMap<String, Entity> = BTreeMap::new();
    for (at, logged) in log.iter().enumerate() {
        assert_eq!(logged.revision, at as u64 + 1);
        let delta = Delta::decode(logged.delta.clone()).expect("a delta");
        assert_eq!((delta.from, delta.to), (at as u64, at as u64 + 1));
        for change in delta.changes {
            match change.change.expect("a change") {
                v1::change::Change::Upsert(entity) => {
                    replayed.insert(entity.id.clone(), entity);
                }
                v1::change::Change::Delete(gone) => {
                    replayed.remove(&gone.id).expect("was there");
                }
            }
        }
        let digest: Digest = replayed.values().cloned().collect();
        assert_eq!(delta.digest_after, digest.to_bytes(), "revision {}", logged.revision);
    }
    assert_eq!(log.len() as u64, head.revision);
    let stored: BTreeMap<_, _> = entities.into_iter().map(|e| (e.id.clone(), e)).collect();
    assert_eq!(replayed, stored);
}

/// Changes that come together are committed together; each stands or falls by itself.
pub(super) async fn what_one_is_refused_for_leaves_the_others_alone(store: Arc<dyn Store>) {
    commit(&store, vec![Op::PutKey(key("there"), Expect::Absent)]).await.expect("commits");
    let writers = (0..60).map(|n| {
        let store = Arc::clone(&store);
        let op = match n % 3 {
            0 => Op::PutKey(key(&format!("k{n}")), Expect::Absent),
            1 => Op::PutKey(key("there"), Expect::Absent),
            _ => Op::DeletePlan(id("none"), Expect::Present),
        };
        tokio::spawn(async move { (n % 3, commit(&store, vec![op]).await) })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.expect("writes") {
            (0, Ok(committed)) => revisions.extend(committed.keys_revision),
            (1, Err(StoreError::Exists { .. })) | (2, Err(StoreError::NotFound { .. })) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=21).collect::<Vec<_>>());
    let (head, entities) =
        store.entities(&id("default"), Namespace::Keys).await.expect("reads").expect("is there");
    assert_eq!((head.revision, entities.len()), (21, 21));
    assert_eq!(entities.into_iter().collect::<Digest>(), head.digest);
}

/// Updates of keys that come together are written together; each stands or falls by itself.
pub(super) async fn updates_of_keys_stand_and_fall_one_by_one(store: Arc<dyn Store>) {
    const KEYS: u64 = 40;
    let plan = put_plan("gold", 10);
    commit(&store, vec![plan]).await.expect("commits");
    let keys: Vec<_> = (0..KEYS).map(|n| key(&format!("k{n}"))).collect();
    for key in &keys {
        let put = Op::PutKey(key.clone(), Expect::Absent);
        commit(&store, vec![put]).await.expect("commits");
    }
    let made_at = async |name: &str| {
        let found = store.key(&id("default"), name).await.expect("reads");
        found.expect("is there").0.created_at
    };
    let made = join_all(keys.iter().map(|key| made_at(key.key_id.as_str()))).await;
    // Of two that have seen the same state, one comes too late.
    let updates = (0..2 * KEYS).map(|n| {
        let (store, seen) = (Arc::clone(&store), n % KEYS);
        let source_path = format!("by{n}");
        let before = &keys[seen as usize];
        let (kind, key, etag) = match seen % 4 {
            0 => ("twice", before.clone(), seen + 1),
            1 => ("stale", before.clone(), 1_000),
            2 => ("gone", key(&format!("gone{n}")), seen + 1),
            _ if n < KEYS => ("no plan", on_plan(before.key_id.as_str(), "none"), seen + 1),
            _ => ("plan", on_plan(before.key_id.as_str(), "gold"), seen + 1),
        };
        let put = Op::PutKey(ApiKey { source_path, ..key }, Expect::Etag(format!("{etag:x}")));
        tokio::spawn(async move { (kind, n, commit(&store, vec![put]).await) })
    });
    let mut done = BTreeMap::new();
    for update in updates.collect::<Vec<_>>() {
        match update.await.expect("writes") {
            ("twice" | "plan", n, Ok(committed)) => {
                let revision = committed.keys_revision.expect("a revision");
                assert_eq!(committed.etags, [format!("{revision:x}")]);
                let other = done.insert(n % KEYS, (n, revision));
                assert_eq!(other, None, "both of k{} were taken", n % KEYS);
            }
            // Where the other one of its key came first, it is too late before its plan is looked for.
            ("twice" | "stale" | "no plan", _, Err(StoreError::Stale { .. }))
            | ("gone", _, Err(StoreError::NotFound { kind: "key", .. }))
            | ("no plan", _, Err(StoreError::UnknownPlan { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done.len() as u64, KEYS / 2);
    for (key, (n, revision)) in done {
        let name = format!("k{key}");
        let (stored, _) = store.key(&id("default"), &name).await.expect("reads").expect("is there");
        assert_eq!(stored.object.source_path, format!("by{n}"));
        assert_eq!(stored.etag, format!("{revision:x}"));
        assert_eq!(stored.created_at, made[key as usize]);
        assert!(stored.updated_at > stored.created_at);
    }
    log_leads_to_the_state(&store, KEYS + KEYS / 2).await;
    let page = Page { after: None, limit: 1_000 };
    let events = store.admin_events(None, &page).await.expect("reads");
    let of_keys = events.iter().filter(|(_, event)| event.kind == "key").count() as u64;
    assert_eq!(of_keys, KEYS + KEYS / 2, "one for each change that was made");
}

/// Updates that say how they are made anew are of what others have left; nothing of those is lost.
pub(super) async fn updates_that_can_be_reworked_add_up(store: Arc<dyn Store>) {
    const OBJECTS: usize = 3;
    const UPDATES: usize = 60;
    // Of each two of these some are written together, and some one by one.
    let keys = [key("k0"), key("k1")];
    commit(&store, vec![put_plan("p", 10)]).await.expect("commits");
    for key in &keys {
        commit(&store, vec![Op::PutKey(key.clone(), Expect::Absent)]).await.expect("commits");
    }

    // All have seen the first state.
    let first = |n: usize| Expect::Etag(format!("{:x}", n + 1));
    let of_key = |n: usize| Change {
        rework: Some(Rework::new(|object| match object {
            Object::Key(held) => Some(Op::PutKey(one_longer(held.object), Expect::Etag(held.etag))),
            _ => None,
        })),
        ..change(vec![Op::PutKey(one_longer(keys[n].clone()), first(n))])
    };
    let of_plan = Change {
        rework: Some(Rework::new(|object| match object {
            Object::Plan(held) => Some(put_limit(one_more(&held.object), Expect::Etag(held.etag))),
            _ => None,
        })),
        ..change(vec![put_limit(11, first(0))])
    };
    let updates = (0..UPDATES).map(|n| {
        let (store, of_plan) = (store.clone(), of_plan.clone());
        let change = if n % OBJECTS < 2 { of_key(n % OBJECTS) } else { of_plan };
        tokio::spawn(async move {
            let committed = commit_change(&store, &change).await.expect("commits");
            let revision = committed.keys_revision.or(committed.config_revision);
            assert_eq!(revision.map(|number| format!("{number:x}")), Some(committed.etag()));
        })
    });
    for update in updates.collect::<Vec<_>>() {
        update.await.expect("writes");
    }
    let each = UPDATES / OBJECTS;
    for key in &keys {
        let held = store.key(&id("default"), key.key_id.as_str()).await.expect("reads");
        let (held, _) = held.expect("is there");
        assert_eq!(held.object.description, format!("{}{}", key.description, "+".repeat(each)));
    }
    let held = store.plan(&id("default"), "p").await.expect("reads").expect("is there");
    assert_eq!(held.object.wire.rate_limit, Some(10 + each as i64));
    log_leads_to_the_state(&store, (keys.len() + 2 * each) as u64).await;

    // A dry run is made anew as well, and writes nothing.
    let dry = Change { validate_only: true, ..of_plan.clone() };
    commit_change(&store, &dry).await.expect("would be committed");
    let after = store.plan(&id("default"), "p").await.expect("reads").expect("is there");
    assert_eq!(after, held);

    // Where nothing is to be made of what is there, the change is late.
    let hopeless = Change { rework: Some(Rework::new(|_| None)), ..of_plan };
    let late = commit_change(&store, &hopeless).await;
    assert!(matches!(late, Err(StoreError::Stale { kind: "plan", .. })), "{late:?}");
}

fn one_longer(key: ApiKey) -> ApiKey {
    ApiKey { description: format!("{}+", key.description), ..key }
}

fn one_more(plan: &Plan) -> i64 {
    plan.wire.rate_limit.expect("a limit") + 1
}

fn put_limit(rate_limit: i64, expect: Expect) -> Op {
    let Op::PutPlan(plan, _) = put_plan("p", rate_limit) else { unreachable!("puts a plan") };
    Op::PutPlan(plan, expect)
}

/// Keys that are asked for together are read together; each who asks is told of the one it named.
pub(super) async fn each_key_asked_for_is_the_one_that_is_told(store: Arc<dyn Store>) {
    let other = id("other");
    let in_other = |ops| Change { environment: other.clone(), ..change(ops) };
    let put = Op::PutEnvironment(environment("other"), Expect::Absent);
    commit_change(&store, &in_other(vec![put])).await.expect("commits");
    let put = Op::PutKey(key("k0"), Expect::Absent);
    commit_change(&store, &in_other(vec![put])).await.expect("commits");
    let puts = (1..=60).map(|n| Op::PutKey(key(&format!("k{n}")), Expect::Absent)).collect();
    commit(&store, puts).await.expect("commits");
    let used = LogEvent { key_id: "k7".into(), environment: "default".into(), ..event(1) };
    assert!(is_new(&store, &batch(0, vec![used])).await);

    // Many ask twice, and some for what is not there, or no id.
    let asked = (0..200).map(|n| {
        let (store, name) = (Arc::clone(&store), format!("k{}", n % 100));
        tokio::spawn(async move {
            let (name, environment) = match n {
                150.. => ("k0", "other"),
                100.. => ("\0", "default"),
                _ => (&*name, "default"),
            };
            let found = store.key(&id(environment), name).await.expect("reads");
            (n, found.map(|(key, usage)| (key.object.key_id.to_string(), usage.count)))
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        let (n, found) = asked.await.expect("asks");
        let there = match n {
            1..=60 => Some((format!("k{n}"), u64::from(n == 7))),
            150.. => Some(("k0".to_owned(), 0)),
            _ => None,
        };
        assert_eq!(found, there, "{n}");
    }
}

pub(super) async fn nothing_is_put_into_an_environment_that_goes(store: Arc<dyn Store>) {
    for n in 0..25 {
        let there = id(&format!("env{n}"));
        let within = |ops| Change { environment: there.clone(), ..change(ops) };
        let create = Op::PutEnvironment(environment(there.as_str()), Expect::Absent);
        commit_change(&store, &within(vec![create])).await.expect("commits");
        let put = within(vec![Op::PutKey(key("k1"), Expect::Absent)]);
        let delete = within(vec![Op::DeleteEnvironment(Expect::Present)]);
        let (put, delete) =
            tokio::join!(commit_change(&store, &put), commit_change(&store, &delete));
        let lost = if put.is_ok() { delete.err() } else { put.err() };
        assert!(
            matches!(lost, Some(StoreError::NotFound { .. } | StoreError::EnvironmentInUse { .. })),
            "{lost:?}"
        );
    }
}

pub(super) async fn a_change_wakes_who_waits(store: Arc<dyn Store>) {
    // What was announced before, such as the start, may wake at once.
    while tokio::time::timeout(Duration::from_millis(500), store.changed(News::Config))
        .await
        .is_ok()
    {}
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.changed(News::Config).await })
    };
    commit(&store, vec![Op::PutKey(key("k1"), Expect::Absent)]).await.expect("commits");
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("wakes").expect("waits");
}

pub(super) async fn an_announced_node_wakes_who_waits(store: Arc<dyn Store>) {
    while tokio::time::timeout(Duration::from_millis(500), store.changed(News::Nodes)).await.is_ok()
    {
    }
    let put = async |announced| {
        store.put_nodes("a", &[], Duration::from_secs(60), announced).await.expect("writes");
    };
    let woken = async |within| tokio::time::timeout(within, store.changed(News::Nodes)).await;
    put(false).await;
    commit(&store, vec![Op::PutKey(key("k1"), Expect::Absent)]).await.expect("commits");
    assert!(woken(Duration::from_millis(500)).await.is_err(), "that was no news");
    put(true).await;
    woken(Duration::from_secs(5)).await.expect("wakes");
}
