//! What a compiler takes in, and what it leaves as it was.

use std::collections::BTreeMap;

use fastgate::{
    admin,
    model::{Fallback, Limit, RateLimit},
    node::v1::{self, EntityKind, EntityRef, KeyRecord},
    secret::SecretHash,
};
use http::Method;
use prost::Message;

use super::*;
use crate::route::Found;

fn compiler() -> Compiler {
    Compiler::new(Id::parse("default").expect("an id"))
}

fn entity(kind: EntityKind, id: &str, value: &impl Message) -> Entity {
    Entity { kind: kind.into(), id: id.into(), value: value.encode_to_vec().into() }
}

fn upsert(entity: Entity) -> Change {
    Change { change: Some(change::Change::Upsert(entity)) }
}

fn delete(kind: EntityKind, id: &str) -> Change {
    let gone = EntityRef { kind: kind.into(), id: id.into() };
    Change { change: Some(change::Change::Delete(gone)) }
}

/// A compiler and the records of its keys, which the sync keeps in the node.
struct Keyed {
    compiler: Compiler,
    held: BTreeMap<String, Record>,
}

impl Keyed {
    fn load(keys: &[Entity]) -> (Self, Vec<EntityError>) {
        let records: Vec<_> = keys.iter().map(record).collect();
        let mut compiler = compiler();
        let errors = compiler.load_keys(records.len(), &records);
        let held = records.into_iter().map(|record| (record.id().to_owned(), record));
        (Self { compiler, held: held.collect() }, errors)
    }

    /// Replaces keys.
    fn change(&mut self, keys: &[Entity]) -> Vec<EntityError> {
        let records: Vec<_> = keys.iter().map(record).collect();
        let changes = records
            .iter()
            .map(|new| KeyChange { old: self.held.get(new.id()), new: Some(new) })
            .collect::<Vec<_>>();
        let errors = self.compiler.change_keys(&changes);
        self.held.extend(records.into_iter().map(|record| (record.id().to_owned(), record)));
        errors
    }

    fn delete(&mut self, id: &str) -> Vec<EntityError> {
        let old = self.held.remove(id);
        self.compiler.change_keys(&[KeyChange { old: old.as_ref(), new: None }])
    }

    /// What these secrets open.
    fn opened<const N: usize>(&self, secrets: [u8; N]) -> [Option<String>; N] {
        let snapshot = self.compiler.snapshot(1, 1);
        secrets.map(|secret| {
            let hash = SecretHash::from_bytes(&[secret; 32]).expect("32 bytes");
            snapshot.keys.get(&hash).map(|entry| entry.key.key_id().to_owned())
        })
    }
}

fn record(entity: &Entity) -> Record {
    Record::new(entity.kind, &entity.id, &entity.value)
}

fn some(id: &str) -> Option<String> {
    Some(id.into())
}

fn key(id: &str, secrets: &[u8], source_path: &str) -> Entity {
    let secrets = secrets.iter().zip(1..).map(|(byte, version)| v1::SecretRecord {
        version,
        hash: vec![*byte; 32],
        expires_at_ms: None,
        created_at_ms: 0,
    });
    let record = KeyRecord {
        key_id: id.into(),
        source_path: source_path.into(),
        is_active: true,
        secrets: secrets.collect(),
        ..Default::default()
    };
    entity(EntityKind::Key, id, &record)
}

fn route(id: &str, prefix: &str, upstream: &str) -> Entity {
    let route = admin::v1::Route {
        route_id: id.into(),
        path_prefix: prefix.into(),
        upstream: upstream.into(),
        ..Default::default()
    };
    entity(EntityKind::Route, id, &route)
}

fn upstream(id: &str, url: &str) -> Entity {
    let targets = vec![admin::v1::Target { url: url.into(), ..Default::default() }];
    let upstream = admin::v1::Upstream { upstream_id: id.into(), targets, ..Default::default() };
    entity(EntityKind::Upstream, id, &upstream)
}

fn plan(id: &str, rate_limit: i64) -> Entity {
    let plan = admin::v1::Plan {
        plan_id: id.into(),
        rate_limit: Some(rate_limit),
        rate_limit_fallback: "closed".into(),
        ..Default::default()
    };
    entity(EntityKind::Plan, id, &plan)
}

/// Where a GET goes.
fn target(compiler: &Compiler, path: &str) -> Option<String> {
    let snapshot = compiler.snapshot(1, 1);
    let Found::Route(route) = snapshot.routes.find("h", path, &Method::GET) else {
        return None;
    };
    let target = snapshot.targets(route)?.pick(0, &[])?.url.to_string();
    Some(target)
}

#[test]
fn a_changed_key_opens_with_its_new_secrets_alone() {
    let (mut keys, errors) = Keyed::load(&[key("a", &[1, 2], "x"), key("b", &[3], "x")]);
    assert_eq!(errors, []);
    assert_eq!(keys.change(&[key("a", &[2, 4], "x")]), []);
    assert_eq!(keys.opened([1, 2, 3, 4]), [None, some("a"), some("b"), some("a")]);
    assert_eq!(keys.delete("a"), []);
    assert_eq!(keys.opened([2, 3, 4]), [None, some("b"), None]);
}

#[test]
fn a_bad_key_is_denied_alone_and_with_its_old_secrets() {
    let (mut keys, _) = Keyed::load(&[key("a", &[1], "x"), key("b", &[2], "x")]);
    let mut garbage = key("c", &[5], "x");
    garbage.value = vec![0xff].into();
    let errors = keys.change(&[key("a", &[3], ""), key("b", &[4], "x"), garbage]);
    let named: Vec<_> = errors.iter().map(|e| (&*e.id, &*e.field)).collect();
    assert_eq!(named, [("a", "source_path"), ("c", "value")]);
    assert_eq!(keys.opened([1, 2, 3, 4, 5]), [None, None, None, some("b"), None]);
    assert_eq!(keys.change(&[key("a", &[3], "x")]), []);
    assert_eq!(keys.opened([3]), [some("a")]);
}

#[test]
fn a_secret_opens_one_key_only() {
    let (mut keys, errors) = Keyed::load(&[key("a", &[1], "x"), key("b", &[2, 1], "x")]);
    assert_eq!(errors.len(), 1);
    assert_eq!(keys.opened([1, 2]), [some("a"), None]);
    assert_eq!(keys.delete("b"), []);
    assert_eq!(keys.opened([1]), [some("a")]);
}

#[test]
fn a_secret_may_move_from_one_key_to_another_in_one_change() {
    let (mut keys, _) = Keyed::load(&[key("a", &[1], "x"), key("b", &[2], "x")]);
    assert_eq!(keys.change(&[key("a", &[2], "x"), key("b", &[1], "x")]), []);
    assert_eq!(keys.opened([1, 2]), [some("b"), some("a")]);
}

#[test]
fn a_changed_upstream_moves_the_routes_that_name_it() {
    let mut compiler = compiler();
    let entities = vec![route("r", "/r", "u"), upstream("u", "http://one")];
    compiler.load_config(entities).expect("valid");
    assert_eq!(target(&compiler, "/r").as_deref(), Some("http://one"));
    compiler.change_config(&[upsert(upstream("u", "http://two"))]).expect("valid");
    assert_eq!(target(&compiler, "/r").as_deref(), Some("http://two"));
}

#[test]
fn config_with_a_fault_changes_nothing_at_all() {
    let mut compiler = compiler();
    let entities = vec![route("r", "/r", "u"), upstream("u", "http://one")];
    compiler.load_config(entities).expect("valid");
    let good = || upsert(upstream("u", "http://two"));
    for (bad, id, field) in [
        (upsert(route("s", "/s", "missing")), "s", "upstream"),
        (upsert(route("s", "s", "u")), "s", "path_prefix"),
        (upsert(route("s", "/r", "u")), "s", "path"),
        (upsert(upstream("v", "ftp://x")), "v", "targets[0].url"),
        (delete(EntityKind::Upstream, "u"), "u", "upstream_id"),
        (upsert(plan("gold", 0)), "gold", "rate_limit"),
        (upsert(Entity { id: "other".into(), ..plan("gold", 1) }), "other", "plan_id"),
        (upsert(key("k", &[1], "x")), "k", "kind"),
        (upsert(Entity { id: "other".into(), ..route("s", "/s", "u") }), "other", "route_id"),
    ] {
        let errors = compiler.change_config(&[good(), bad]).expect_err(field);
        let named: Vec<_> = errors.iter().map(|e| (&*e.id, &*e.field)).collect();
        assert_eq!(named, [(id, field)], "{errors:?}");
        assert_eq!(target(&compiler, "/r").as_deref(), Some("http://one"));
    }
    assert!(compiler.load_config(vec![route("r", "/r", "u")]).is_err());
    assert_eq!(target(&compiler, "/r").as_deref(), Some("http://one"));
}

#[test]
fn one_change_may_swap_paths_and_move_routes_before_their_upstream_goes() {
    let mut compiler = compiler();
    let entities = vec![
        route("a", "/a", "u"),
        route("b", "/b", "v"),
        upstream("u", "http://u"),
        upstream("v", "http://v"),
    ];
    compiler.load_config(entities).expect("valid");
    let swap = [upsert(route("a", "/b", "u")), upsert(route("b", "/a", "v"))];
    compiler.change_config(&swap).expect("valid");
    assert_eq!(target(&compiler, "/a").as_deref(), Some("http://v"));
    let go = [delete(EntityKind::Upstream, "u"), upsert(route("a", "/b", "v"))];
    compiler.change_config(&go).expect("valid");
    assert_eq!(target(&compiler, "/b").as_deref(), Some("http://v"));
    let back = [delete(EntityKind::Route, "b"), upsert(upstream("u", "http://u"))];
    compiler.change_config(&back).expect("valid");
    assert_eq!(target(&compiler, "/a"), None);
}

#[test]
fn settings_give_the_limit_of_keys_without_one() {
    let mut compiler = compiler();
    let limit = |compiler: &Compiler| {
        compiler.snapshot(1, 1).default_rate_limit.map(|rate| rate.per_minute())
    };
    assert_eq!(limit(&compiler), Some(100));
    let settings = |default_rate_limit| {
        upsert(entity(EntityKind::Settings, "default", &v1::Settings { default_rate_limit }))
    };
    compiler.change_config(&[settings(7)]).expect("valid");
    assert_eq!(limit(&compiler), Some(7));
    compiler.change_config(&[settings(0)]).expect("valid");
    assert_eq!(limit(&compiler), None);
}

/// A key with one secret, perhaps on a plan, perhaps with a limit of its own.
fn limited_key(secret: u8, plan_id: &str, rate_limit: Option<i64>) -> Entity {
    let id = format!("k{secret}");
    let mut record = KeyRecord::decode(key(&id, &[secret], "x").value).expect("a record");
    record.plan_id = plan_id.into();
    record.rate_limit = rate_limit;
    entity(EntityKind::Key, &id, &record)
}

#[test]
fn a_key_has_its_own_limit_then_its_plans_then_the_default() {
    let keys = [
        limited_key(1, "gold", Some(7)),
        limited_key(2, "gold", None),
        limited_key(3, "later", None),
        limited_key(4, "", None),
    ];
    let (mut keys, errors) = Keyed::load(&keys);
    assert_eq!(errors, []);
    let limits = |compiler: &Compiler| {
        let snapshot = compiler.snapshot(1, 1);
        [1, 2, 3, 4].map(|secret| {
            let hash = SecretHash::from_bytes(&[secret; 32]).expect("32 bytes");
            let entry = snapshot.keys.get(&hash).expect("a key");
            entry.limits(&snapshot.plans, snapshot.default_rate_limit).0
        })
    };
    let a_minute =
        |rate, fallback| Some(Limit::a_minute(RateLimit::parse(rate).expect("a rate"), fallback));
    let own = |rate| a_minute(rate, Fallback::LocalShare);
    let closed = |rate| a_minute(rate, Fallback::Closed);
    let compiler = &mut keys.compiler;
    assert_eq!(limits(compiler), [own(7), own(100), own(100), own(100)], "no plan is known yet");
    compiler.change_config(&[upsert(plan("gold", 60))]).expect("valid");
    assert_eq!(limits(compiler), [own(7), closed(60), own(100), own(100)]);
    let both = [upsert(plan("gold", 120)), upsert(plan("later", 1))];
    compiler.change_config(&both).expect("valid");
    assert_eq!(limits(compiler), [own(7), closed(120), closed(1), own(100)]);
    let without = admin::v1::Plan { plan_id: "later".into(), ..Default::default() };
    let gone =
        [delete(EntityKind::Plan, "gold"), upsert(entity(EntityKind::Plan, "later", &without))];
    compiler.change_config(&gone).expect("valid");
    assert_eq!(limits(compiler), [own(7), own(100), own(100), own(100)]);
    let further = admin::v1::Plan {
        plan_id: "gold".into(),
        limits: vec![admin::v1::Limit { name: "daily".into(), amount: 5, ..Default::default() }],
        ..Default::default()
    };
    let further = upsert(entity(EntityKind::Plan, "gold", &further));
    compiler.change_config(&[further]).expect("valid");
    assert_eq!(limits(compiler), [own(7), own(100), own(100), own(100)], "beside the others");
}

#[test]
fn what_only_a_newer_control_plane_knows_is_passed_over() {
    let mut compiler = compiler();
    let newer = Entity { kind: 99, id: "n".into(), value: vec![0xff].into() };
    let entities = vec![route("r", "/r", "u"), newer.clone(), upstream("u", "http://one")];
    compiler.load_config(entities).expect("valid");
    assert_eq!(target(&compiler, "/r").as_deref(), Some("http://one"));
    let gone = EntityRef { kind: 99, id: "n".into() };
    let gone = Change { change: Some(change::Change::Delete(gone)) };
    let changes = [upsert(newer), upsert(upstream("u", "http://two")), gone];
    compiler.change_config(&changes).expect("valid");
    assert_eq!(target(&compiler, "/r").as_deref(), Some("http://two"));
}
