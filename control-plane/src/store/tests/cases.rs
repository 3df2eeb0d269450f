//! One rule of the contract a function.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1,
    node::v1::{Delta, KeyRecord, change::Change},
    secret::{Kind, Secret},
};
use prost::Message as _;

use crate::{
    domain::{Actor, Environment, Expect, Namespace, Op, Outcome, Role, Route, Token, Upstream},
    store::{Cursor, KeyFilter, Page, Store, StoreError},
};

use super::samples::{change, commit, id, key};

type Db = Arc<dyn Store>;

fn route(name: &str, spoil: impl FnOnce(&mut v1::Route)) -> Box<Route> {
    let mut wire = v1::Route {
        route_id: name.into(),
        path_prefix: format!("/{name}"),
        upstream: "up".into(),
        ..v1::Route::default()
    };
    spoil(&mut wire);
    Box::new(Route::parse(wire).expect("a route"))
}

fn upstream(name: &str) -> Op {
    let targets = vec![v1::Target { url: "http://127.0.0.1:1".into(), ..v1::Target::default() }];
    let wire = v1::Upstream { upstream_id: name.into(), targets, ..v1::Upstream::default() };
    Op::PutUpstream(Box::new(Upstream::parse(wire).expect("an upstream")), Expect::Absent)
}

fn put(route: Box<Route>) -> Op {
    Op::PutRoute(route, Expect::Absent)
}

fn all() -> Page {
    Page { after: None, limit: 1000 }
}

pub(super) async fn default_exists_from_the_start(store: Db) {
    let stored = store.environment("default").await.expect("reads").expect("is there");
    assert_eq!(stored.object.default_rate_limit, None);
    assert_eq!(store.environment("other").await.expect("reads"), None);
    assert_eq!(store.heads().await.expect("reads").len(), 2);
}

pub(super) async fn a_key_reads_back_as_it_was_written(store: Db) {
    let written = key("k1");
    let op = Op::PutKey(written.clone(), Expect::Absent);
    let committed = commit(&store, vec![op]).await.expect("commits");
    assert_eq!(committed.keys_revision, Some(1));
    assert_eq!(committed.config_revision, None);
    let (stored, usage) = store.key(&id("default"), "k1").await.expect("reads").expect("is there");
    assert_eq!(stored.object, written);
    assert_eq!(stored.etag, committed.etags[0]);
    assert_eq!((usage.count, usage.last_used_at), (0, None));
    assert_eq!(store.key(&id("default"), "k2").await.expect("reads"), None);
}

pub(super) async fn a_reset_of_limits_is_a_revision_of_the_key(store: Db) {
    let key = key("k1");
    let first = commit(&store, vec![Op::PutKey(key.clone(), Expect::Absent)]).await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_007);
    let reset = key.with_limits_reset(at);
    let etag = Expect::Etag(first.expect("commits").etags[0].clone());
    let committed = commit(&store, vec![Op::PutKey(reset.clone(), etag)]).await.expect("commits");
    assert_eq!((committed.keys_revision, committed.config_revision), (Some(2), None));
    let (stored, _) = store.key(&id("default"), "k1").await.expect("reads").expect("is there");
    assert_eq!((stored.object.limits_reset_at, stored.revision()), (Some(at), 2));
    assert_eq!(stored.object, reset);
    // Nodes get it like any other change of a key.
    let log = store.log(&id("default"), Namespace::Keys, 1, 10).await.expect("reads");
    let delta = Delta::decode(&log[0].delta[..]).expect("a delta");
    let Some(Change::Upsert(sent)) = &delta.changes[0].change else { panic!("{delta:?}") };
    let record = KeyRecord::decode(&sent.value[..]).expect("a record");
    assert_eq!(record.limits_reset_at_ms, Some(1_790_000_000_007));
    let held = store.entities(&id("default"), Namespace::Keys).await.expect("reads");
    assert_eq!(held.expect("is there").1, std::slice::from_ref(sent));
}

pub(super) async fn expectations_are_checked(store: Db) {
    let put = |expect| vec![Op::PutKey(key("k1"), expect)];
    let missing = commit(&store, put(Expect::Present)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { kind: "key", .. })), "{missing:?}");
    let first = commit(&store, put(Expect::Absent)).await.expect("commits");
    let twice = commit(&store, put(Expect::Absent)).await;
    assert!(matches!(twice, Err(StoreError::Exists { kind: "key", .. })), "{twice:?}");
    let etag = Expect::Etag(first.etags[0].clone());
    commit(&store, put(etag.clone())).await.expect("commits");
    let stale = commit(&store, put(etag.clone())).await;
    assert!(matches!(stale, Err(StoreError::Stale { kind: "key", .. })), "{stale:?}");
    let stale = commit(&store, vec![Op::DeleteKey(id("k1"), etag)]).await;
    assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
    commit(&store, vec![Op::DeleteKey(id("k1"), Expect::Present)]).await.expect("commits");
    assert_eq!(store.key(&id("default"), "k1").await.expect("reads"), None);
    let mut elsewhere = change(put(Expect::Absent));
    elsewhere.environment = id("nowhere");
    let missing = store.commit(&elsewhere).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound { kind: "environment", .. })),
        "{missing:?}"
    );
}

pub(super) async fn routes_that_nothing_tells_apart_collide(store: Db) {
    let unknown = commit(&store, vec![put(route("a", |_| {}))]).await;
    assert!(matches!(unknown, Err(StoreError::UnknownUpstream { .. })), "{unknown:?}");
    // Ops see what those before them did.
    commit(&store, vec![upstream("up"), put(route("a", |r| r.name = "A".into()))])
        .await
        .expect("commits");
    let same = commit(&store, vec![put(route("b", |r| r.path_prefix = "/a/".into()))]).await;
    assert!(
        matches!(&same, Err(StoreError::RouteCollision { other, .. }) if other == "a"),
        "{same:?}"
    );
    let name = commit(&store, vec![put(route("b", |r| r.name = "A".into()))]).await;
    assert!(matches!(&name, Err(StoreError::NameTaken { other, .. }) if other == "a"), "{name:?}");
    let higher = route("b", |r| {
        r.path_prefix = "/a".into();
        r.priority = 1;
    });
    commit(&store, vec![put(higher)]).await.expect("commits");
    assert_eq!(store.routes(&id("default"), &all()).await.expect("reads").len(), 2);
}

pub(super) async fn one_change_may_swap_what_must_differ(store: Db) {
    let named = |id: &str, name: &str, path: &str| {
        let (name, path) = (name.to_owned(), path.to_owned());
        route(id, |r| {
            r.name = name;
            r.path_prefix = path;
        })
    };
    let ops = vec![upstream("up"), put(named("a", "A", "/a")), put(named("b", "B", "/b"))];
    commit(&store, ops).await.expect("commits");
    let swap = vec![
        Op::PutRoute(named("a", "B", "/b"), Expect::Present),
        Op::PutRoute(named("b", "A", "/a"), Expect::Present),
    ];
    commit(&store, swap).await.expect("commits");
    let half = vec![Op::PutRoute(named("a", "B", "/a"), Expect::Present)];
    let half = commit(&store, half).await;
    assert!(matches!(half, Err(StoreError::RouteCollision { .. })), "{half:?}");
}

pub(super) async fn an_upstream_in_use_stays(store: Db) {
    commit(&store, vec![upstream("up"), put(route("a", |_| {}))]).await.expect("commits");
    let delete = || Op::DeleteUpstream(id("up"), Expect::Present);
    let used = commit(&store, vec![delete()]).await;
    assert!(
        matches!(&used, Err(StoreError::UpstreamInUse { route, .. }) if route == "a"),
        "{used:?}"
    );
    let both = vec![Op::DeleteRoute(id("a"), Expect::Present), delete()];
    commit(&store, both).await.expect("commits");
    assert!(store.upstreams(&id("default"), &all()).await.expect("reads").is_empty());
}

pub(super) async fn an_environment_in_use_stays(store: Db) {
    let in_staging = |op| {
        let mut change = change(vec![op]);
        change.environment = id("staging");
        change
    };
    let environment =
        Environment { default_rate_limit: Some(0), ..Environment::new(id("staging")) };
    let create = in_staging(Op::PutEnvironment(environment, Expect::Absent));
    store.commit(&create).await.expect("commits");
    let twice = store.commit(&create).await;
    assert!(matches!(twice, Err(StoreError::Exists { kind: "environment", .. })), "{twice:?}");
    let epoch = |heads: Vec<crate::store::Head>| {
        heads.into_iter().find(|h| h.environment == id("staging")).expect("is there").epoch
    };
    let first = epoch(store.heads().await.expect("reads"));
    store.commit(&in_staging(Op::PutKey(key("k1"), Expect::Absent))).await.expect("commits");
    let delete = in_staging(Op::DeleteEnvironment(Expect::Present));
    let used = store.commit(&delete).await;
    assert!(matches!(used, Err(StoreError::EnvironmentInUse { .. })), "{used:?}");
    store.commit(&in_staging(Op::DeleteKey(id("k1"), Expect::Present))).await.expect("commits");
    store.commit(&delete).await.expect("commits");
    assert_eq!(store.environment("staging").await.expect("reads"), None);
    store.commit(&create).await.expect("commits");
    assert_ne!(epoch(store.heads().await.expect("reads")), first, "a new history");
}

pub(super) async fn a_failed_change_leaves_nothing(store: Db) {
    let before = store.heads().await.expect("reads");
    let half = vec![upstream("up"), put(route("a", |_| {})), put(route("a", |_| {}))];
    let failed = commit(&store, half).await;
    assert!(matches!(failed, Err(StoreError::Exists { .. })), "{failed:?}");
    assert_eq!(store.heads().await.expect("reads"), before);
    assert!(store.upstreams(&id("default"), &all()).await.expect("reads").is_empty());
}

pub(super) async fn a_trial_changes_nothing(store: Db) {
    let before = store.heads().await.expect("reads");
    let mut trial = change(vec![Op::PutKey(key("k1"), Expect::Absent)]);
    trial.validate_only = true;
    for _ in 0..2 {
        let outcome = store.commit(&trial).await.expect("would commit");
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    assert_eq!(store.heads().await.expect("reads"), before);
    assert_eq!(store.key(&id("default"), "k1").await.expect("reads"), None);
}

pub(super) async fn text_is_only_text(store: Db) {
    let sql = "'; DROP TABLE api_keys; --\" \\ % _ $1 ?1 用户";
    let mut odd = key("k1");
    odd.description = sql.into();
    odd.source_path = sql.into();
    commit(&store, vec![Op::PutKey(odd.clone(), Expect::Absent)]).await.expect("commits");
    let filter =
        KeyFilter { source_path: Some(sql.into()), is_active: Some(true), ..KeyFilter::default() };
    let found = store.keys(&id("default"), &filter, &all()).await.expect("reads");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.object, odd);
    assert_eq!(store.key(&id("default"), sql).await.expect("reads"), None);
    assert_eq!(store.environment(sql).await.expect("reads"), None);
    let after = Page { after: Some(Cursor::by_id(sql)), limit: 10 };
    store.routes(&id("default"), &after).await.expect("reads");
}

pub(super) async fn pages_hold_every_key_once(store: Db) {
    for n in 0..7 {
        let op = Op::PutKey(key(&format!("k{n}")), Expect::Absent);
        commit(&store, vec![op]).await.expect("commits");
    }
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = Page { after: after.clone(), limit: 3 };
        let keys = store.keys(&id("default"), &KeyFilter::default(), &page).await.expect("reads");
        let Some((last, _)) = keys.last() else { break };
        after = Some(Cursor::by_time(last.created_at, last.object.key_id.as_str()));
        seen.extend(keys.iter().map(|(key, _)| key.object.key_id.to_string()));
        // What is created meanwhile is newer, so it moves no page that is still to come.
        let late = Op::PutKey(key(&format!("late{}", seen.len())), Expect::Absent);
        commit(&store, vec![late]).await.expect("commits");
    }
    assert_eq!(seen, ["k6", "k5", "k4", "k3", "k2", "k1", "k0"]);
}

fn token(name: &str, role: Role, expires_at: SystemTime) -> Token {
    Token {
        token_id: name.into(),
        name: name.into(),
        role,
        hash: Secret::generate(Kind::AdminToken).expect("random bytes").hash(),
        created_at: SystemTime::UNIX_EPOCH,
        expires_at,
    }
}

/// In the year 2286.
fn far() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(9_999_999_999)
}

pub(super) async fn an_expired_owner_locks_nobody_out(store: Db) {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert!(store.create_first_owner(&token("old", Role::Owner, past)).await.expect("writes"));
    assert!(store.create_first_owner(&token("new", Role::Owner, far())).await.expect("writes"));
    let actor = Actor { token_id: "new".into() };
    let last = store.revoke_token("new", &actor).await;
    assert!(matches!(last, Err(StoreError::LastOwner)), "{last:?}");
    store.revoke_token("old", &actor).await.expect("writes");
}

pub(super) async fn the_last_owner_stays(store: Db) {
    let token = |name: &str, role| token(name, role, far());
    let actor = Actor { token_id: "first".into() };
    assert!(store.create_first_owner(&token("first", Role::Owner)).await.expect("writes"));
    assert!(!store.create_first_owner(&token("other", Role::Owner)).await.expect("reads"));
    let viewer = token("viewer", Role::Viewer);
    store.create_token(&viewer, &actor).await.expect("writes");
    let last = store.revoke_token("first", &actor).await;
    assert!(matches!(last, Err(StoreError::LastOwner)), "{last:?}");
    store.create_token(&token("second", Role::Owner), &actor).await.expect("writes");
    store.revoke_token("first", &actor).await.expect("writes");
    let gone = store.revoke_token("first", &actor).await;
    assert!(matches!(gone, Err(StoreError::NotFound { kind: "token", .. })), "{gone:?}");
    let left = store.tokens().await.expect("reads");
    assert_eq!(left.len(), 2);
    assert!(left.contains(&viewer));
    let events = store.admin_events(None, &all()).await.expect("reads");
    let mut trail: Vec<_> = events.iter().map(|(_, event)| event.id.as_str()).collect();
    trail.reverse();
    assert_eq!(trail, ["default", "first", "viewer", "second", "first"]);
}

fn node(environment: &str, n: usize) -> v1::Node {
    v1::Node {
        node_id: format!("n{n:04}"),
        environment: environment.into(),
        connected: true,
        last_nack: "revision 3: route a: path: is odd, \u{fc}ber".into(),
        keys_revision: u64::MAX,
        ..v1::Node::default()
    }
}

/// What the replicas but one said, by environment and id.
async fn said_to(store: &Db, replica: &str) -> Vec<v1::Node> {
    let said = store.nodes_of_others(replica).await.expect("reads");
    assert!(said.iter().all(|said| said.age < Duration::from_secs(60)), "{said:?}");
    let mut nodes: Vec<_> = said.into_iter().map(|said| said.node).collect();
    nodes.sort_by_key(|node| (node.environment.clone(), node.node_id.clone()));
    nodes
}

pub(super) async fn replicas_tell_each_other_of_their_nodes(store: Db) {
    let heads = store.heads().await.expect("reads");
    let hour = Duration::from_secs(3600);
    let put = async |replica: &str, nodes: &[v1::Node]| {
        store.put_nodes(replica, nodes, hour, false).await.expect("writes");
    };
    // More than one statement takes, and one of them known to another replica too.
    let many: Vec<_> = (0..4500).map(|n| node("default", n)).collect();
    put("a", &many).await;
    put("b", &[node("default", 7), node("staging", 7)]).await;
    put("c", &[]).await;
    assert_eq!(said_to(&store, "b").await, many);
    assert_eq!(said_to(&store, "a").await, [node("default", 7), node("staging", 7)]);
    assert_eq!(said_to(&store, "c").await.len(), 4502);

    let went = v1::Node { connected: false, ..node("staging", 7) };
    put("b", std::slice::from_ref(&went)).await;
    assert_eq!(said_to(&store, "a").await, [node("default", 7), went]);
    assert_eq!(store.heads().await.expect("reads"), heads, "none of it is a revision");
}

pub(super) async fn what_is_not_said_again_of_a_node_is_forgotten(store: Db) {
    let put = async |replica: &str, n: usize, kept: Duration| {
        store.put_nodes(replica, &[node("default", n)], kept, false).await.expect("writes");
    };
    put("a", 1, Duration::from_secs(3600)).await;
    put("a", 2, Duration::from_secs(3600)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    put("a", 2, Duration::from_secs(3600)).await;
    let said = store.nodes_of_others("b").await.expect("reads");
    let is_old = |said: &crate::store::SaidNode| said.age > Duration::from_millis(500);
    assert_eq!(said.iter().filter(|said| is_old(said)).count(), 1, "{said:?}");
    put("b", 3, Duration::from_millis(500)).await;
    assert_eq!(said_to(&store, "c").await, [node("default", 2), node("default", 3)]);
}
