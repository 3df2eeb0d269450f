//! Turns what the control plane sent into snapshots, or says what is wrong with it.
//!
//! Config is taken all or nothing. A bad key is quarantined alone: it and its secrets are denied
//! until a good record of it comes, so that one bad record never holds back a revocation.
//! Either way a change costs what it touches, never what is already there.

use std::{collections::HashMap, sync::Arc};

use fastgate::{
    admin,
    model::{Destination, Id, Key, RateLimit, Route, Settings, Upstream, Violations},
    node::v1::{Change, Entity, EntityError, EntityKind, EntityRef, KeyRecord, change},
};
use http::HeaderValue;
use prost::Message;

use crate::{
    route::{CompiledRoute, RouteIndex},
    snapshot::{KeyEntry, KeyTable, Persistent, Snapshot, Upstreams},
    upstream::TargetSet,
};

/// Holds the state of an environment as it was last taken in, and makes snapshots of it.
pub(crate) struct Compiler {
    environment: Id,
    keys: Keys,
    config: Config,
}

impl Compiler {
    /// An empty state.
    pub(crate) fn new(environment: Id) -> Self {
        Self { environment, keys: Keys::default(), config: Config::default() }
    }

    /// Replaces all keys; returns what was quarantined.
    pub(crate) fn load_keys(&mut self, entities: Vec<Entity>) -> Vec<EntityError> {
        self.keys = Keys::default();
        let mut errors = Vec::new();
        for entity in entities {
            self.keys.upsert(&entity, &mut errors);
        }
        errors
    }

    /// Applies changes to keys; returns what was quarantined.
    pub(crate) fn change_keys(&mut self, changes: &[Change]) -> Vec<EntityError> {
        let mut errors = Vec::new();
        for change in changes {
            match &change.change {
                Some(change::Change::Upsert(entity)) => self.keys.upsert(entity, &mut errors),
                Some(change::Change::Delete(gone)) => self.keys.remove(&gone.id),
                None => {}
            }
        }
        errors
    }

    /// Replaces all config, or nothing of it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn load_config(&mut self, entities: Vec<Entity>) -> Result<(), Vec<EntityError>> {
        let mut draft = Draft::of(Config::default());
        for entity in entities {
            draft.upsert(&entity);
        }
        self.config = draft.finish()?;
        Ok(())
    }

    /// Applies all changes to config, or none.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn change_config(&mut self, changes: &[Change]) -> Result<(), Vec<EntityError>> {
        let mut draft = Draft::of(self.config.clone());
        for change in changes {
            match &change.change {
                Some(change::Change::Upsert(entity)) => draft.upsert(entity),
                Some(change::Change::Delete(gone)) => draft.remove(gone),
                None => {}
            }
        }
        self.config = draft.finish()?;
        Ok(())
    }

    /// The state as a snapshot.
    pub(crate) fn snapshot(&self, keys_revision: u64, config_revision: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            environment: self.environment.clone(),
            keys: self.keys.table.clone(),
            routes: self.config.index.clone(),
            upstreams: self.config.upstreams.clone(),
            default_rate_limit: self.config.default_rate_limit,
            keys_revision,
            config_revision,
        })
    }
}

#[derive(Default)]
struct Keys {
    table: KeyTable,
    /// The same keys by id: says which secrets go when a key goes.
    by_id: HashMap<Id, Arc<Key>>,
}

impl Keys {
    fn upsert(&mut self, entity: &Entity, errors: &mut Vec<EntityError>) {
        // First out with the old: whatever is wrong with the new record, its secrets are denied.
        self.remove(&entity.id);
        if let Err(faults) = self.insert(entity) {
            errors.extend(
                faults.into_iter().map(|fault| error(entity, fault.field, fault.description)),
            );
        }
    }

    fn insert(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: KeyRecord = decode(entity, EntityKind::Key)?;
        let key = Arc::new(Key::parse(&wire)?);
        check_id("key_id", &key.key_id, entity)?;
        let source_path = HeaderValue::from_str(key.source_path.as_str())
            .map_err(|_| one("source_path", "can't stand in a header"))?;
        for (at, secret) in key.secrets.iter().enumerate() {
            let earlier = key.secrets.iter().take(at);
            if self.table.contains_key(&secret.hash)
                || earlier.clone().any(|e| e.hash == secret.hash)
            {
                return Err(one("secrets", "hold a secret that opens a key already"));
            }
        }
        for secret in &key.secrets {
            let entry = KeyEntry {
                key: key.clone(),
                version: secret.version,
                expires_at: secret.expires_at,
                source_path: source_path.clone(),
            };
            self.table.insert(secret.hash, Arc::new(entry));
        }
        self.by_id.insert(key.key_id.clone(), key);
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        for secret in self.by_id.remove(id).iter().flat_map(|key| &key.secrets) {
            self.table.remove(&secret.hash);
        }
    }
}

/// Routes, upstreams and settings. Clones share what they do not change.
#[derive(Clone)]
struct Config {
    routes: Persistent<Id, Arc<CompiledRoute>>,
    index: RouteIndex,
    upstreams: Upstreams,
    /// How many routes name an upstream, whether or not there is one of that name.
    named_by: Persistent<Id, usize>,
    default_rate_limit: Option<RateLimit>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routes: Persistent::default(),
            index: RouteIndex::default(),
            upstreams: Upstreams::default(),
            named_by: Persistent::default(),
            default_rate_limit: RateLimit::parse(Settings::DEFAULT_RATE_LIMIT).ok(),
        }
    }
}

/// A config being changed, and what was found wrong on the way.
struct Draft {
    config: Config,
    /// Put into the index at the end, when the routes they replace are out.
    new_routes: Vec<(Entity, Arc<CompiledRoute>)>,
    gone_upstreams: Vec<EntityRef>,
    errors: Vec<EntityError>,
}

impl Draft {
    fn of(config: Config) -> Self {
        Self { config, new_routes: Vec::new(), gone_upstreams: Vec::new(), errors: Vec::new() }
    }

    fn upsert(&mut self, entity: &Entity) {
        let taken = match entity.kind() {
            EntityKind::Route => self.upsert_route(entity),
            EntityKind::Upstream => self.upsert_upstream(entity),
            EntityKind::Settings => self.upsert_settings(entity),
            EntityKind::Key | EntityKind::Unspecified => {
                Err(one("kind", "is neither a route nor an upstream nor settings"))
            }
        };
        if let Err(faults) = taken {
            let faults = faults.into_iter();
            self.errors.extend(faults.map(|fault| error(entity, fault.field, fault.description)));
        }
    }

    fn upsert_route(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: admin::v1::Route = decode(entity, EntityKind::Route)?;
        let route = Route::parse(&wire)?;
        check_id("route_id", &route.route_id, entity)?;
        let own_targets = match &route.destination {
            Destination::Targets(targets) => {
                Some(Arc::new(target_set(targets, Upstream::CONNECT_TIMEOUT)?))
            }
            Destination::Upstream(_) => None,
        };
        self.remove_route(&entity.id);
        let route = Arc::new(CompiledRoute::new(route, own_targets));
        if let Destination::Upstream(id) = &route.route.destination {
            *self.config.named_by.entry(id.clone()).or_default() += 1;
        }
        self.config.routes.insert(route.route.route_id.clone(), route.clone());
        self.new_routes.push((entity.clone(), route));
        Ok(())
    }

    fn upsert_upstream(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: admin::v1::Upstream = decode(entity, EntityKind::Upstream)?;
        let upstream = Upstream::parse(&wire)?;
        check_id("upstream_id", &upstream.upstream_id, entity)?;
        let targets = target_set(&upstream.targets, upstream.connect_timeout)?;
        self.config.upstreams.insert(upstream.upstream_id, Arc::new(targets));
        Ok(())
    }

    fn upsert_settings(&mut self, entity: &Entity) -> Result<(), Violations> {
        let wire: fastgate::node::v1::Settings = decode(entity, EntityKind::Settings)?;
        self.config.default_rate_limit = Settings::parse(&wire)?.default_rate_limit;
        Ok(())
    }

    fn remove(&mut self, gone: &EntityRef) {
        match gone.kind() {
            EntityKind::Route => self.remove_route(&gone.id),
            EntityKind::Upstream => {
                self.config.upstreams.remove(gone.id.as_str());
                self.gone_upstreams.push(gone.clone());
            }
            EntityKind::Settings => {
                self.config.default_rate_limit = Config::default().default_rate_limit;
            }
            EntityKind::Key | EntityKind::Unspecified => {}
        }
    }

    fn remove_route(&mut self, id: &str) {
        let Some(old) = self.config.routes.remove(id) else { return };
        if let Destination::Upstream(upstream) = &old.route.destination {
            match self.config.named_by.get_mut(upstream) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.config.named_by.remove(upstream)),
            }
        }
        self.new_routes.retain(|(entity, _)| entity.id != id);
        self.config.index.remove(&old.route);
    }

    /// Checks what only the whole can show.
    fn finish(mut self) -> Result<Config, Vec<EntityError>> {
        for (entity, compiled) in &self.new_routes {
            if let Err(other) = self.config.index.insert(compiled) {
                let text = format!("matches the same requests as the route '{other}'");
                self.errors.push(error(entity, "path".into(), text));
            }
            if let Destination::Upstream(id) = &compiled.route.destination
                && !self.config.upstreams.contains_key(id)
            {
                let text = format!("names '{id}', which does not exist");
                self.errors.push(error(entity, "upstream".into(), text));
            }
        }
        for gone in &self.gone_upstreams {
            let is_named = self.config.named_by.get(gone.id.as_str()).is_some_and(|n| *n > 0);
            if is_named && !self.config.upstreams.contains_key(gone.id.as_str()) {
                self.errors.push(EntityError {
                    kind: gone.kind,
                    id: gone.id.clone(),
                    field: "upstream_id".into(),
                    message: "is deleted while a route names it".into(),
                });
            }
        }
        if self.errors.is_empty() { Ok(self.config) } else { Err(self.errors) }
    }
}

fn target_set(
    targets: &[fastgate::model::Target],
    connect_timeout: std::time::Duration,
) -> Result<TargetSet, Violations> {
    TargetSet::new(targets, connect_timeout)
        .map_err(|at| one(&format!("targets[{at}].url"), "has a host no Host header can hold"))
}

fn decode<M: Message + Default>(entity: &Entity, kind: EntityKind) -> Result<M, Violations> {
    if entity.kind() != kind {
        return Err(one("kind", "does not fit the namespace"));
    }
    M::decode(entity.value.clone())
        .map_err(|fault| one("value", &format!("can't be read: {fault}")))
}

fn check_id(field: &str, id: &Id, entity: &Entity) -> Result<(), Violations> {
    if id.as_str() == entity.id {
        return Ok(());
    }
    Err(one(field, "differs from the id of the entity"))
}

fn one(field: &str, description: &str) -> Violations {
    let mut faults = Violations::default();
    faults.add(field, description);
    faults
}

fn error(entity: &Entity, field: String, message: String) -> EntityError {
    EntityError { kind: entity.kind, id: entity.id.clone(), field, message }
}

#[cfg(test)]
mod tests {
    use fastgate::{node::v1, secret::SecretHash};
    use http::Method;

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

    fn opens(compiler: &Compiler, secret: u8) -> Option<String> {
        let hash = SecretHash::from_bytes(&[secret; 32]).expect("32 bytes");
        let snapshot = compiler.snapshot(1, 1);
        snapshot.keys.get(&hash).map(|entry| entry.key.key_id.to_string())
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
        let upstream =
            admin::v1::Upstream { upstream_id: id.into(), targets, ..Default::default() };
        entity(EntityKind::Upstream, id, &upstream)
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
        let mut compiler = compiler();
        assert_eq!(compiler.load_keys(vec![key("a", &[1, 2], "x"), key("b", &[3], "x")]), []);
        assert_eq!(compiler.change_keys(&[upsert(key("a", &[2, 4], "x"))]), []);
        let opened: Vec<_> = (1..=4).map(|secret| opens(&compiler, secret)).collect();
        let a = Some("a".to_owned());
        assert_eq!(opened, [None, a.clone(), Some("b".into()), a]);
        assert_eq!(compiler.change_keys(&[delete(EntityKind::Key, "a")]), []);
        assert_eq!((opens(&compiler, 2), opens(&compiler, 4)), (None, None));
    }

    #[test]
    fn a_bad_key_is_denied_alone_and_with_its_old_secrets() {
        let mut compiler = compiler();
        compiler.load_keys(vec![key("a", &[1], "x"), key("b", &[2], "x")]);
        let mut garbage = key("c", &[5], "x");
        garbage.value = vec![0xff].into();
        let changes = [key("a", &[3], ""), key("b", &[4], "x"), garbage].map(upsert);
        let errors = compiler.change_keys(&changes);
        let named: Vec<_> = errors.iter().map(|e| (&*e.id, &*e.field)).collect();
        assert_eq!(named, [("a", "source_path"), ("c", "value")]);
        let opened: Vec<_> = (1..=5).map(|secret| opens(&compiler, secret)).collect();
        assert_eq!(opened, [None, None, None, Some("b".into()), None]);
        assert_eq!(compiler.change_keys(&[upsert(key("a", &[3], "x"))]), []);
        assert_eq!(opens(&compiler, 3), Some("a".into()));
    }

    #[test]
    fn a_secret_opens_one_key_only() {
        let mut compiler = compiler();
        let errors = compiler.load_keys(vec![key("a", &[1], "x"), key("b", &[2, 1], "x")]);
        assert_eq!(errors.len(), 1);
        assert_eq!((opens(&compiler, 1), opens(&compiler, 2)), (Some("a".into()), None));
        assert_eq!(compiler.change_keys(&[delete(EntityKind::Key, "b")]), []);
        assert_eq!(opens(&compiler, 1), Some("a".into()));
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
}
