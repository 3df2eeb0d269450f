//! Calls that come again, with their request id.

use std::sync::Arc;

use super::{
    concurrency::log_leads_to_the_state,
    samples::{change, commit_change, environment, id, key, put_plan},
};
use crate::{
    domain::{CallId, Change, Expect, Op, Outcome, Repeatable, Replay},
    store::{Store, StoreError},
};

fn call(action: &'static str, asked: u8) -> CallId {
    CallId { action, request_id: "r1".into(), fingerprint: [asked; 32] }
}

fn put_key(name: &str, call: CallId) -> Change {
    let answer = name.as_bytes().to_vec();
    let put = change(vec![Op::PutKey(key(name), Expect::Absent)]);
    Change { repeatable: Some(Repeatable { call, answer }), ..put }
}

pub(super) async fn a_repeated_call_is_answered_from_memory(store: Arc<dyn Store>) {
    let same = call("create", 1);
    assert_eq!(store.replay(&same).await.expect("reads"), None);
    let first = commit_change(&store, &put_key("k1", same.clone())).await.expect("commits");
    let heads = store.heads().await.expect("reads");
    let again = store.commit(&put_key("k2", same.clone())).await.expect("answers");
    let replay = Replay { committed: first, answer: b"k1".to_vec() };
    assert_eq!(again, Outcome::Replayed(replay.clone()));
    assert_eq!(store.replay(&same).await.expect("reads"), Some(replay));

    let other = call("create", 2);
    let reused = store.commit(&put_key("k2", other.clone())).await;
    assert!(matches!(reused, Err(StoreError::RequestReused { .. })), "{reused:?}");
    let reused = store.replay(&other).await;
    assert!(matches!(reused, Err(StoreError::RequestReused { .. })), "{reused:?}");
    assert_eq!(store.heads().await.expect("reads"), heads);
    assert_eq!(store.key(&id("default"), "k2").await.expect("reads"), None);

    commit_change(&store, &put_key("k2", call("another", 2))).await.expect("commits");
}

pub(super) async fn a_repeated_call_that_creates_its_environment_is_too(store: Arc<dyn Store>) {
    let create = |name: &str, asked| {
        let put = change(vec![Op::PutEnvironment(environment(name), Expect::Absent)]);
        let repeatable = Some(Repeatable { call: call("create", asked), answer: vec![] });
        Change { environment: id(name), repeatable, ..put }
    };
    let first = commit_change(&store, &create("staging", 1)).await.expect("commits");
    let again = store.commit(&create("staging", 1)).await.expect("answers");
    assert_eq!(again, Outcome::Replayed(Replay { committed: first, answer: vec![] }));
    let reused = store.commit(&create("production", 2)).await;
    assert!(matches!(reused, Err(StoreError::RequestReused { .. })), "{reused:?}");
    assert_eq!(store.environment("production").await.expect("reads"), None);
}

pub(super) async fn calls_that_come_at_once_are_one(store: Arc<dyn Store>) {
    let mut elsewhere = put_key("k2", call("create", 2));
    elsewhere.environment = id("staging");
    let create = change(vec![Op::PutEnvironment(environment("staging"), Expect::Absent)]);
    let create = Change {
        environment: id("staging"),
        repeatable: Some(Repeatable { call: call("environment", 1), answer: vec![] }),
        ..create
    };
    let nothing = Change { ops: vec![], ..put_key("none", call("nothing", 1)) };
    for (change, others) in
        [(create, None), (nothing, None), (put_key("k1", call("create", 1)), Some(elsewhere))]
    {
        let calls = (0..8).map(|n| {
            let change = others.clone().filter(|_| n % 2 == 1).unwrap_or_else(|| change.clone());
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(&change).await })
        });
        let mut committed = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("ends") {
                Ok(Outcome::Committed(_)) => committed += 1,
                Ok(Outcome::Replayed(_)) => {}
                Err(StoreError::RequestReused { .. }) => assert!(others.is_some()),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(committed, 1);
    }
}

/// A client that asks again while its first call waits finds itself in one transaction with what others
/// write. What comes of its second call must be nothing, not a revision that no log knows.
pub(super) async fn calls_that_come_again_take_no_revision(store: Arc<dyn Store>) {
    let plan = |name: &str| {
        let put = change(vec![put_plan(name, 10)]);
        let call = CallId { request_id: name.to_owned(), ..call("plan", 1) };
        Change { repeatable: Some(Repeatable { call, answer: vec![] }), ..put }
    };
    let key = |name: &str| put_key(name, CallId { request_id: name.to_owned(), ..call("key", 1) });
    let mut calls = Vec::new();
    for n in 0..10 {
        for again in 0..3 {
            calls.extend([plan(&format!("p{n}")), key(&format!("k{n}"))]);
            calls.push(change(vec![put_plan(&format!("once{n}-{again}"), 10)]));
        }
    }
    let calls = calls.into_iter().map(|change| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(&change).await })
    });
    let mut replayed = 0;
    for call in calls.collect::<Vec<_>>() {
        let outcome = call.await.expect("ends").expect("commits");
        replayed += u32::from(matches!(outcome, Outcome::Replayed(_)));
    }
    assert_eq!(replayed, 40);
    log_leads_to_the_state(&store, 10).await;
    let config = store.revisions(&id("default"), None, 1000).await.expect("reads");
    let numbers: Vec<_> = config.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, (1..=41).rev().collect::<Vec<_>>());
    let first = store.config_entities_at(&id("default"), 1).await.expect("reads");
    assert_eq!(first.map(|entities| entities.len()), Some(1), "all of it can be taken back");
}
