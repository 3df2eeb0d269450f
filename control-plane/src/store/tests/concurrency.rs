//! What must hold when many write at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastgate::{
    digest::Digest,
    node::v1::{self, Delta, Entity},
};
use prost::Message as _;

use super::samples::{change, commit, commit_change, environment, id, key};
use crate::{
    domain::{Change, Expect, Namespace, Op},
    store::{News, Store, StoreError},
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

    let (head, entities) =
        store.entities(&id("default"), Namespace::Keys).await.expect("reads").expect("is there");
    assert_eq!(head.revision, (WRITERS * (CHANGES + CHANGES.div_ceil(3))) as u64);
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
