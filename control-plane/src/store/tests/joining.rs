//! Tokens are used once, and who is revoked stays so.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    identity::{Fingerprint, NodeName, Serial},
    secret::{Kind, Secret, SecretHash},
};

use super::samples::{change, commit_change, environment, id};
use crate::{
    domain::{Actor, Change, Expect, Issued, JoinToken, Op},
    store::{News, Page, Store, StoreError},
};

type Db = Arc<dyn Store>;

fn actor() -> Actor {
    Actor { token_id: "owner".into() }
}

fn node(environment: &str, node_id: &str) -> NodeName {
    NodeName { environment: id(environment), node_id: id(node_id) }
}

fn issued(environment: &str, node_id: &str) -> Issued {
    // As precise as it is kept.
    let now = SystemTime::UNIX_EPOCH
        + Duration::from_micros(super::super::unix_us(SystemTime::now()) as u64);
    let serial = Serial::random().expect("random bytes");
    Issued {
        serial,
        key: Fingerprint::of_key(serial.as_bytes()),
        node: node(environment, node_id),
        issued_at: now,
        expires_at: now + Duration::from_secs(60),
    }
}

async fn token(store: &Db, node_id: Option<&str>, expires_in: i64) -> SecretHash {
    let secret = Secret::generate(Kind::JoinToken).expect("random bytes");
    let now = issued("default", "n").issued_at;
    let span = Duration::from_secs(expires_in.unsigned_abs());
    let token = JoinToken {
        token_id: format!("join-{}", uuid::Uuid::now_v7().simple()),
        hash: secret.hash(),
        environment: id("default"),
        node_id: node_id.map(id),
        created_at: now,
        expires_at: if expires_in < 0 { now - span } else { now + span },
    };
    store.create_join_token(&token, &actor()).await.expect("writes");
    let kept = store.join_token(&secret.hash()).await.expect("reads");
    assert_eq!(kept.as_ref(), Some(&token));
    assert!(store.join_tokens().await.expect("reads").contains(&token));
    secret.hash()
}

async fn is_listed(store: &Db, hash: &SecretHash) -> bool {
    store.join_tokens().await.expect("reads").iter().any(|token| token.hash == *hash)
}

async fn joined(store: &Db, node_id: &str) -> Issued {
    let hash = token(store, None, 60).await;
    let issued = issued("default", node_id);
    assert!(store.join(&hash, &issued).await.expect("writes"));
    issued
}

pub(super) async fn the_first_ca_stays(store: Db) {
    let ca = |byte| Fingerprint::from_bytes(&[byte; 32]).expect("32 bytes");
    for asked in [1, 2, 1] {
        assert_eq!(store.node_ca(ca(asked)).await.expect("writes"), ca(1));
    }
}

pub(super) async fn a_token_is_used_once_however_many_come_at_once(store: Db) {
    for _ in 0..10 {
        let hash = token(&store, None, 60).await;
        let (one, other) = (issued("default", "n1"), issued("default", "n2"));
        let (one, other) = tokio::join!(store.join(&hash, &one), store.join(&hash, &other));
        assert!(one.expect("writes") != other.expect("writes"), "one of two");
        assert!(!is_listed(&store, &hash).await);
        assert!(!store.join(&hash, &issued("default", "n3")).await.expect("writes"));
    }
    let page = Page { after: None, limit: 1 };
    let events = store.admin_events(Some("default"), &page).await.expect("reads");
    let [(_, event)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&*event.action, &*event.kind), ("fastgate.node.v1.NodeIdentity/Join", "node"));
    assert!(event.token_id.starts_with("join-"), "{event:?}");
}

pub(super) async fn a_token_is_for_its_environment_its_node_and_its_time(store: Db) {
    for (only, expires_in, asked, may) in [
        (None, 60, ("default", "n1"), true),
        (None, 60, ("other", "n1"), false),
        (Some("n1"), 60, ("default", "n1"), true),
        (Some("n1"), 60, ("default", "n2"), false),
        (None, -1, ("default", "n1"), false),
    ] {
        let hash = token(&store, only, expires_in).await;
        let joined = store.join(&hash, &issued(asked.0, asked.1)).await.expect("writes");
        assert_eq!(joined, may, "{only:?} {expires_in} {asked:?}");
        // What was of no use is still there for whom it is meant.
        assert_eq!(is_listed(&store, &hash).await, !may);
    }
    let none = SecretHash::from_bytes(&[7; 32]).expect("32 bytes");
    assert!(!store.join(&none, &issued("default", "n1")).await.expect("reads"));
    let gone = store.delete_join_token("join-1", &actor()).await;
    assert!(matches!(gone, Err(StoreError::NotFound { kind: "join token", .. })), "{gone:?}");
}

pub(super) async fn who_lost_the_answer_asks_again_with_the_same_key(store: Db) {
    let hash = token(&store, None, 1200).await;
    let first = issued("default", "n1");
    let again = |after, key, node_id| Issued {
        key,
        issued_at: first.issued_at + Duration::from_secs(after),
        ..issued("default", node_id)
    };
    assert!(store.join(&hash, &first).await.expect("writes"));
    let other = Fingerprint::of_key(b"another");
    for (after, key, node_id, may) in [
        (1, first.key, "n1", true),
        (1, other, "n1", false),
        (1, first.key, "n2", false),
        // Counted from the first time on.
        (599, first.key, "n1", true),
        (601, first.key, "n1", false),
    ] {
        let joined = store.join(&hash, &again(after, key, node_id)).await.expect("writes");
        assert_eq!(joined, may, "{after} s, {node_id}");
    }
    store.revoke_node(&first.node, &actor()).await.expect("writes");
    let back = store.join(&hash, &again(1, first.key, "n1")).await.expect("reads");
    assert!(!back, "who is revoked came back with the token it had");
}

pub(super) async fn who_is_revoked_renews_nothing_and_joins_anew(store: Db) {
    let never = store.revoke_node(&node("default", "n1"), &actor()).await;
    assert!(matches!(never, Err(StoreError::NotFound { kind: "node", .. })), "{never:?}");
    let (first, second) = (joined(&store, "n1").await, issued("default", "n1"));
    assert!(store.renew(&first.serial, &second).await.expect("writes"));
    assert!(!store.renew(&first.serial, &issued("default", "n2")).await.expect("reads"));
    let other = joined(&store, "n2").await;

    store.revoke_node(&node("default", "n1"), &actor()).await.expect("writes");
    let mut revoked = store.revoked_certificates().await.expect("reads");
    revoked.sort_by_key(|serial| *serial.as_bytes());
    let mut both = [first.serial, second.serial];
    both.sort_by_key(|serial| *serial.as_bytes());
    assert_eq!(revoked, both);
    for shown in [first.serial, second.serial, Serial::random().expect("random bytes")] {
        assert!(!store.renew(&shown, &issued("default", "n1")).await.expect("reads"));
    }
    assert!(store.renew(&other.serial, &issued("default", "n2")).await.expect("writes"));

    let anew = joined(&store, "n1").await;
    assert!(store.renew(&anew.serial, &issued("default", "n1")).await.expect("writes"));
    assert_eq!(store.revoked_certificates().await.expect("reads").len(), 2);
}

pub(super) async fn a_renewal_under_way_is_revoked_too(store: Db) {
    for round in 0..20 {
        let name = format!("n{round}");
        let first = joined(&store, &name).await;
        let next = issued("default", &name);
        let own = node("default", &name);
        let by = actor();
        let (renewed, revoked) =
            tokio::join!(store.renew(&first.serial, &next), store.revoke_node(&own, &by));
        revoked.expect("writes");
        let refused = store.revoked_certificates().await.expect("reads");
        assert!(refused.contains(&first.serial));
        assert_eq!(refused.contains(&next.serial), renewed.expect("writes"), "{round}");
    }
}

pub(super) async fn who_asks_again_meanwhile_is_revoked_too(store: Db) {
    for round in 0..40 {
        let name = format!("n{round}");
        let hash = token(&store, None, 60).await;
        let first = issued("default", &name);
        assert!(store.join(&hash, &first).await.expect("writes"));
        let again = Issued { key: first.key, ..issued("default", &name) };
        let (by, own) = (actor(), node("default", &name));
        let (joined, revoked) =
            tokio::join!(store.join(&hash, &again), store.revoke_node(&own, &by));
        revoked.expect("writes");
        let refused = store.revoked_certificates().await.expect("reads");
        assert_eq!(refused.contains(&again.serial), joined.expect("writes"), "{round}");
    }
}

pub(super) async fn a_revocation_wakes_who_waits(store: Db) {
    joined(&store, "n1").await;
    let woken = async |within| tokio::time::timeout(within, store.changed(News::Revocations)).await;
    while woken(Duration::from_millis(500)).await.is_ok() {}
    store.revoke_node(&node("default", "n1"), &actor()).await.expect("writes");
    woken(Duration::from_secs(5)).await.expect("wakes");
}

pub(super) async fn nodes_of_an_environment_go_with_it(store: Db) {
    let within = |ops| Change { environment: id("staging"), ..change(ops) };
    let create = Op::PutEnvironment(environment("staging"), Expect::Absent);
    commit_change(&store, &within(vec![create])).await.expect("commits");
    let staging = JoinToken {
        token_id: "join-1".into(),
        hash: SecretHash::from_bytes(&[9; 32]).expect("32 bytes"),
        environment: id("staging"),
        node_id: None,
        created_at: SystemTime::now(),
        expires_at: SystemTime::now() + Duration::from_secs(60),
    };
    store.create_join_token(&staging, &actor()).await.expect("writes");
    let left = JoinToken {
        token_id: "join-2".into(),
        hash: SecretHash::from_bytes(&[8; 32]).expect("32 bytes"),
        ..staging.clone()
    };
    store.create_join_token(&left, &actor()).await.expect("writes");
    let issued = issued("staging", "n1");
    assert!(store.join(&staging.hash, &issued).await.expect("writes"));
    let delete = Op::DeleteEnvironment(Expect::Present);
    commit_change(&store, &within(vec![delete])).await.expect("commits");
    assert_eq!(store.revoked_certificates().await.expect("reads"), [issued.serial]);
    assert_eq!(store.join_tokens().await.expect("reads"), []);
}
