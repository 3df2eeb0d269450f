//! Many keys in one change.

use std::{slice, sync::Arc};

use fastgate::{digest::Digest, node::v1::Delta};
use prost::Message as _;

use super::samples::{change, commit, commit_change, environment, id, key};
use crate::{
    domain::{ApiKey, Change, Committed, Expect, Namespace, Op},
    store::{Page, Store, StoreError},
};

type Db = Arc<dyn Store>;

/// More than one statement takes.
const MANY: usize = 2100;

fn keys(count: usize) -> Vec<ApiKey> {
    (0..count).map(|n| key(&format!("k{n}"))).collect()
}

fn create(keys: &[ApiKey]) -> Vec<Op> {
    keys.iter().map(|key| Op::PutKey(key.clone(), Expect::Absent)).collect()
}

pub(super) async fn many_new_keys_are_one_revision(store: Db) {
    let keys = keys(MANY);
    let trial = Change { validate_only: true, ..change(create(&keys)) };
    commit_change(&store, &trial).await.expect("would commit");
    let names: Vec<_> = keys.iter().map(|key| key.key_id.clone()).collect();
    assert_eq!(store.keys_named(&id("default"), &names).await.expect("reads"), []);

    let committed = commit(&store, create(&keys)).await.expect("commits");
    assert_eq!(committed.keys_revision, Some(1));
    assert_eq!(committed.etags, vec!["1"; MANY]);
    let (head, entities) =
        store.entities(&id("default"), Namespace::Keys).await.expect("reads").expect("is there");
    assert_eq!((head.revision, entities.len()), (1, MANY));
    assert_eq!(entities.iter().cloned().collect::<Digest>(), head.digest);
    let log = store.log(&id("default"), Namespace::Keys, 0, 10).await.expect("reads");
    let delta = Delta::decode(log[0].delta.clone()).expect("a delta");
    assert_eq!((log.len(), delta.changes.len()), (1, MANY));

    let mut found = store.keys_named(&id("default"), &names).await.expect("reads");
    found.sort_by_key(|stored| names.iter().position(|name| *name == stored.object.key_id));
    assert_eq!(found.into_iter().map(|stored| stored.object).collect::<Vec<_>>(), keys);
    assert_eq!(store.keys_named(&id("other"), &names).await.expect("reads"), []);

    let page = Page { after: None, limit: 10_000 };
    let events = store.admin_events(None, &page).await.expect("reads");
    let of_keys = events.iter().filter(|(_, event)| event.kind == "key");
    assert_eq!(of_keys.count(), MANY);
}

pub(super) async fn one_key_that_is_there_keeps_all_out(store: Db) {
    let mut keys = keys(MANY);
    let last = vec![keys[MANY - 1].clone()];
    commit(&store, create(&last)).await.expect("commits");
    let before = store.heads().await.expect("reads");
    let failed = commit(&store, create(&keys)).await;
    let expected = keys[MANY - 1].key_id.as_str();
    assert!(matches!(&failed, Err(StoreError::Exists { id, .. }) if id == expected), "{failed:?}");

    keys.truncate(3);
    keys.push(keys[1].clone());
    let twice = commit(&store, create(&keys)).await;
    assert!(matches!(&twice, Err(StoreError::Exists { id, .. }) if id == "k1"), "{twice:?}");
    assert_eq!(store.heads().await.expect("reads"), before);
    assert_eq!(store.key(&id("default"), "k0").await.expect("reads"), None);
}

pub(super) async fn one_secret_opens_one_key(store: Db) {
    let [one, other, third] = ["one", "other", "third"].map(key);
    let with_that_of =
        |name: &str, of: &ApiKey| ApiKey { secrets: of.secrets.clone(), ..key(name) };
    let taken = |done: Result<Committed, StoreError>, of: &str| {
        let is_right = matches!(&done, Err(StoreError::SecretTaken { id, other }) if id == "twin" && other == of);
        assert!(is_right, "{done:?}");
    };
    commit(&store, create(slice::from_ref(&one))).await.expect("commits");
    let before = store.heads().await.expect("reads");
    let twin = with_that_of("twin", &one);
    taken(commit(&store, create(slice::from_ref(&twin))).await, "one");
    taken(commit(&store, create(&[other.clone(), twin.clone(), third.clone()])).await, "one");
    let trial = Change { validate_only: true, ..change(create(slice::from_ref(&twin))) };
    taken(commit_change(&store, &trial).await, "one");
    let both = create(&[third.clone(), with_that_of("twin", &third)]);
    taken(commit(&store, both).await, "third");
    assert_eq!(store.heads().await.expect("reads"), before);

    // Elsewhere it is another secret.
    let elsewhere = |ops| Change { environment: id("staging"), ..change(ops) };
    let put = Op::PutEnvironment(environment("staging"), Expect::Absent);
    commit_change(&store, &elsewhere(vec![put])).await.expect("commits");
    commit_change(&store, &elsewhere(create(slice::from_ref(&twin)))).await.expect("commits");

    // It goes with its environment, and its secret is free when there is one of that name again.
    let gone =
        vec![Op::DeleteKey(id("twin"), Expect::Present), Op::DeleteEnvironment(Expect::Present)];
    commit_change(&store, &elsewhere(gone)).await.expect("commits");
    let put = Op::PutEnvironment(environment("staging"), Expect::Absent);
    commit_change(&store, &elsewhere(vec![put])).await.expect("commits");
    commit_change(&store, &elsewhere(create(&[with_that_of("heir", &one)]))).await.expect("free");

    // Updated, it keeps its own; rotated, it frees what it had; so it does when it goes.
    let etag = |revision: Option<u64>| Expect::Etag(format!("{:x}", revision.expect("one")));
    let quiet = ApiKey { is_active: false, ..one.clone() };
    let done = commit(&store, vec![Op::PutKey(quiet, etag(Some(1)))]).await.expect("commits");
    taken(commit(&store, create(slice::from_ref(&twin))).await, "one");
    let rotated = with_that_of("one", &other);
    let rotated = vec![Op::PutKey(rotated, etag(done.keys_revision))];
    commit(&store, rotated).await.expect("commits");
    taken(commit(&store, create(&[with_that_of("twin", &other)])).await, "one");
    commit(&store, create(slice::from_ref(&twin))).await.expect("it is free");
    let mut moved = vec![Op::DeleteKey(id("twin"), Expect::Present)];
    moved.extend(create(&[with_that_of("heir", &twin)]));
    commit(&store, moved).await.expect("one change may move it");
    taken(commit(&store, create(&[twin])).await, "heir");
}

pub(super) async fn the_log_is_read_in_bounded_parts(store: Db) {
    // Some 3 MiB each.
    for revision in 0..3 {
        let mut keys = keys(500);
        for key in &mut keys {
            key.key_id = id(&format!("r{revision}-{}", key.key_id));
            key.permissions = (0..64).map(|n| format!("p{n:02}{}", "x".repeat(90))).collect();
        }
        commit(&store, create(&keys)).await.expect("commits");
    }
    for (after, expected) in [(0, &[1, 2][..]), (1, &[2, 3]), (2, &[3]), (3, &[])] {
        let log = store.log(&id("default"), Namespace::Keys, after, 10).await.expect("reads");
        let revisions: Vec<_> = log.iter().map(|logged| logged.revision).collect();
        assert_eq!(revisions, expected, "after {after}");
    }
    let one = store.log(&id("default"), Namespace::Keys, 0, 1).await.expect("reads");
    assert_eq!(one.len(), 1);
}
