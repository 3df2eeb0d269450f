//! One change in one transaction: revisions, checks, objects, change log, admin events.

use std::time::SystemTime;

use fastgate::{
    digest::Digest,
    model::Id,
    node::v1::{self, Entity, EntityKind, EntityRef, change},
};
use prost::Message as _;
use uuid::Uuid;

use super::{
    Result, Tx,
    objects::parse_route,
    revisions::ns_name,
    tokens,
    value::{broken, from_us, not_found, to_i64, to_u64, to_us},
};
use crate::{
    domain::{
        ApiKey, Change, Committed, Environment, Expect, Namespace, Op, Outcome, Route, Upstream,
    },
    store::StoreError,
};

/// Revisions kept in the log: a node further behind gets a snapshot.
const LOG_KEPT: i64 = 10_000;

/// How long a request id is remembered, in microseconds: a day.
const REQUESTS_KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Runs a change; the caller commits or rolls back.
pub(super) async fn run(tx: &mut Tx, change: &Change) -> Result<Outcome> {
    let now_us = to_us(SystemTime::now());
    let mut draft = Draft::begin(tx, change, now_us).await?;
    // Asked under the lock of the heads: of two calls with one id the second sees the first.
    if let Some(ids) = draft.replay().await? {
        return Ok(Outcome::Replayed(ids));
    }
    let mut etags = Vec::with_capacity(change.ops.len());
    for op in &change.ops {
        etags.push(draft.write(op).await?);
    }
    // Only now, so that one change can move a path or a name from one route to another.
    draft.check_whole().await?;
    draft.finish(etags).await
}

/// A change under way.
struct Draft<'a> {
    tx: &'a mut Tx,
    change: &'a Change,
    now_us: i64,
    keys: Option<NextRevision>,
    config: Option<NextRevision>,
}

/// The revision a change makes in one namespace.
struct NextRevision {
    ns: Namespace,
    epoch: String,
    revision: u64,
    digest: Digest,
    changes: Vec<v1::Change>,
}

/// What is in the store of an object that is about to be written.
struct Kept {
    entity: Vec<u8>,
    etag: String,
}

/// A table of objects.
struct Table {
    kind: EntityKind,
    /// In messages and admin events.
    name: &'static str,
    select: &'static str,
    delete: &'static str,
}

const KEYS: Table = Table {
    kind: EntityKind::Key,
    name: "key",
    select: "SELECT entity, etag FROM api_keys WHERE environment = $1 AND key_id = $2",
    delete: "DELETE FROM api_keys WHERE environment = $1 AND key_id = $2",
};

const ROUTES: Table = Table {
    kind: EntityKind::Route,
    name: "route",
    select: "SELECT entity, etag FROM routes WHERE environment = $1 AND route_id = $2",
    delete: "DELETE FROM routes WHERE environment = $1 AND route_id = $2",
};

const UPSTREAMS: Table = Table {
    kind: EntityKind::Upstream,
    name: "upstream",
    select: "SELECT entity, etag FROM upstreams WHERE environment = $1 AND upstream_id = $2",
    delete: "DELETE FROM upstreams WHERE environment = $1 AND upstream_id = $2",
};

const ENVIRONMENTS: Table = Table {
    kind: EntityKind::Settings,
    name: "environment",
    select: "SELECT entity, etag FROM environments WHERE environment = $1 AND environment = $2",
    delete: "DELETE FROM environments WHERE environment = $1 AND environment = $2",
};

impl<'a> Draft<'a> {
    /// Takes the next revision of each namespace the change touches. `config` comes first, so
    /// that two changes never wait for each other crosswise.
    async fn begin(tx: &'a mut Tx, change: &'a Change, now_us: i64) -> Result<Self> {
        if let Some(Op::PutEnvironment(_, Expect::Absent)) = change.ops.first() {
            create_heads(tx, &change.environment).await?;
        }
        let touches = |ns| change.ops.iter().any(|op| op_namespace(op) == ns);
        let mut draft = Self { tx, change, now_us, keys: None, config: None };
        if touches(Namespace::Config) {
            draft.config = Some(draft.lock(Namespace::Config).await?);
        }
        if touches(Namespace::Keys) {
            draft.keys = Some(draft.lock(Namespace::Keys).await?);
        }
        Ok(draft)
    }

    async fn lock(&mut self, ns: Namespace) -> Result<NextRevision> {
        let row: Option<(String, i64, Vec<u8>)> = sqlx::query_as(
            "UPDATE config_heads SET revision = revision + 1 WHERE environment = $1 AND ns = $2 \
             RETURNING epoch, revision, digest",
        )
        .bind(self.change.environment.as_str())
        .bind(ns_name(ns))
        .fetch_optional(&mut **self.tx)
        .await?;
        let (epoch, revision, digest) =
            row.ok_or_else(|| not_found("environment", self.change.environment.as_str()))?;
        let digest = Digest::from_bytes(&digest).ok_or_else(|| broken("a digest's length"))?;
        Ok(NextRevision { ns, epoch, revision: to_u64(revision), digest, changes: Vec::new() })
    }

    /// What an earlier change with the same request id wrote.
    async fn replay(&mut self) -> Result<Option<Vec<String>>> {
        let Some(request_id) = &self.change.request_id else { return Ok(None) };
        sqlx::query("DELETE FROM requests WHERE at_us < $1")
            .bind(self.now_us - REQUESTS_KEPT_US)
            .execute(&mut **self.tx)
            .await?;
        let ids: Option<(String,)> = sqlx::query_as(
            "SELECT ids FROM requests WHERE environment = $1 AND action = $2 AND request_id = $3",
        )
        .bind(self.change.environment.as_str())
        .bind(self.change.action)
        .bind(request_id)
        .fetch_optional(&mut **self.tx)
        .await?;
        ids.map(|(ids,)| serde_json::from_str(&ids).map_err(broken)).transpose()
    }

    /// Writes one object; returns its new etag, empty for a delete.
    async fn write(&mut self, op: &Op) -> Result<String> {
        match op {
            Op::PutKey(key, expect) => self.put_key(key, expect).await,
            Op::PutRoute(route, expect) => self.put_route(route, expect).await,
            Op::PutUpstream(upstream, expect) => self.put_upstream(upstream, expect).await,
            Op::PutEnvironment(environment, expect) => {
                self.put_environment(environment, expect).await
            }
            Op::DeleteKey(id, expect) => self.delete(&KEYS, id, expect).await,
            Op::DeleteRoute(id, expect) => self.delete(&ROUTES, id, expect).await,
            Op::DeleteUpstream(id, expect) => self.delete(&UPSTREAMS, id, expect).await,
            Op::DeleteEnvironment(expect) => self.delete_environment(expect).await,
        }
    }

    async fn put_key(&mut self, key: &ApiKey, expect: &Expect) -> Result<String> {
        let entity = key.entity();
        let etag = self.replace(&KEYS, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO api_keys (environment, key_id, source_path, is_active, description, \
             entity, etag, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) \
             ON CONFLICT (environment, key_id) DO UPDATE SET source_path = $3, is_active = $4, \
             description = $5, entity = $6, etag = $7, updated_us = $8",
        )
        .bind(self.change.environment.as_str())
        .bind(key.key_id.as_str())
        .bind(&key.source_path)
        .bind(key.is_active)
        .bind(&key.description)
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        Ok(etag)
    }

    async fn put_route(&mut self, route: &Route, expect: &Expect) -> Result<String> {
        let entity = route.entity();
        let id = &entity.id;
        let etag = self.replace(&ROUTES, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO routes (environment, route_id, name, match_key, upstream_id, entity, \
             etag, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) \
             ON CONFLICT (environment, route_id) DO UPDATE SET name = $3, match_key = $4, \
             upstream_id = $5, entity = $6, etag = $7, updated_us = $8",
        )
        .bind(self.change.environment.as_str())
        .bind(id)
        .bind(given(&route.wire.name))
        .bind(match_key(route))
        .bind(given(&route.wire.upstream))
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        Ok(etag)
    }

    async fn put_upstream(&mut self, upstream: &Upstream, expect: &Expect) -> Result<String> {
        let entity = upstream.entity();
        let etag = self.replace(&UPSTREAMS, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO upstreams (environment, upstream_id, entity, etag, created_us, \
             updated_us) VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (environment, upstream_id) \
             DO UPDATE SET entity = $3, etag = $4, updated_us = $5",
        )
        .bind(self.change.environment.as_str())
        .bind(&entity.id)
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        Ok(etag)
    }

    async fn put_environment(
        &mut self,
        environment: &Environment,
        expect: &Expect,
    ) -> Result<String> {
        let entity = environment.entity();
        let etag = self.replace(&ENVIRONMENTS, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO environments (environment, description, default_rate_limit, entity, \
             etag, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $6) \
             ON CONFLICT (environment) DO UPDATE SET description = $2, \
             default_rate_limit = $3, entity = $4, etag = $5, updated_us = $6",
        )
        .bind(&entity.id)
        .bind(&environment.description)
        .bind(environment.default_rate_limit)
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        Ok(etag)
    }

    async fn delete_environment(&mut self, expect: &Expect) -> Result<String> {
        let id = self.change.environment.clone();
        for select in [
            "SELECT 1 FROM api_keys WHERE environment = $1 LIMIT 1",
            "SELECT 1 FROM routes WHERE environment = $1 LIMIT 1",
            "SELECT 1 FROM upstreams WHERE environment = $1 LIMIT 1",
        ] {
            let found =
                sqlx::query(select).bind(id.as_str()).fetch_optional(&mut **self.tx).await?;
            if found.is_some() {
                return Err(StoreError::EnvironmentInUse { id: id.to_string() });
            }
        }
        let etag = self.delete(&ENVIRONMENTS, &id, expect).await?;
        for delete in [
            "DELETE FROM config_log WHERE environment = $1",
            "DELETE FROM config_heads WHERE environment = $1",
        ] {
            sqlx::query(delete).bind(id.as_str()).execute(&mut **self.tx).await?;
        }
        Ok(etag)
    }

    async fn delete(&mut self, table: &Table, id: &Id, expect: &Expect) -> Result<String> {
        let kept = self.kept(table, id.as_str(), expect).await?;
        sqlx::query(table.delete)
            .bind(self.change.environment.as_str())
            .bind(id.as_str())
            .execute(&mut **self.tx)
            .await?;
        let gone = EntityRef { kind: table.kind.into(), id: id.to_string() };
        let next = self.next_revision(table.kind)?;
        if let Some(kept) = kept {
            next.digest.remove(&as_entity(table.kind, id.as_str(), kept.entity));
        }
        next.changes.push(v1::Change { change: Some(change::Change::Delete(gone)) });
        Ok(String::new())
    }

    /// Notes that an entity takes the place of what was there; returns its new etag.
    async fn replace(&mut self, table: &Table, entity: &Entity, expect: &Expect) -> Result<String> {
        let kept = self.kept(table, &entity.id, expect).await?;
        let next = self.next_revision(table.kind)?;
        if let Some(kept) = kept {
            next.digest.remove(&as_entity(table.kind, &entity.id, kept.entity));
        }
        next.digest.add(entity);
        next.changes.push(v1::Change { change: Some(change::Change::Upsert(entity.clone())) });
        Ok(format!("{:x}", next.revision))
    }

    /// What is there of an object, if that is what the change expects.
    async fn kept(&mut self, table: &Table, id: &str, expect: &Expect) -> Result<Option<Kept>> {
        let kept: Option<(Vec<u8>, String)> = sqlx::query_as(table.select)
            .bind(self.change.environment.as_str())
            .bind(id)
            .fetch_optional(&mut **self.tx)
            .await?;
        let kept = kept.map(|(entity, etag)| Kept { entity, etag });
        let (kind, name) = (table.name, || id.to_owned());
        match (expect, &kept) {
            (Expect::Absent, Some(_)) => Err(StoreError::Exists { kind, id: name() }),
            (Expect::Present | Expect::Etag(_), None) => Err(not_found(kind, id)),
            (Expect::Etag(etag), Some(kept)) if *etag != kept.etag => {
                Err(StoreError::Stale { kind, id: name() })
            }
            _ => Ok(kept),
        }
    }

    /// Checks what ops can only break together, in the state all of them led to.
    async fn check_whole(&mut self) -> Result<()> {
        let change = self.change;
        for op in &change.ops {
            match op {
                Op::PutRoute(route, _) => {
                    let id = route.model.route_id.as_str();
                    self.check_name(id, &route.wire.name).await?;
                    self.check_upstream(id, &route.wire.upstream).await?;
                    self.check_collisions(id, route).await?;
                }
                Op::DeleteUpstream(id, _) => self.check_unused(id).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn check_name(&mut self, id: &str, name: &str) -> Result<()> {
        let Some(name) = given(name) else { return Ok(()) };
        let other: Option<(String,)> = sqlx::query_as(
            "SELECT route_id FROM routes WHERE environment = $1 AND name = $2 AND route_id <> $3",
        )
        .bind(self.change.environment.as_str())
        .bind(name)
        .bind(id)
        .fetch_optional(&mut **self.tx)
        .await?;
        match other {
            Some((other,)) => Err(StoreError::NameTaken { name: name.to_owned(), other }),
            None => Ok(()),
        }
    }

    async fn check_upstream(&mut self, id: &str, upstream: &str) -> Result<()> {
        let Some(upstream) = given(upstream) else { return Ok(()) };
        let found = sqlx::query(UPSTREAMS.select)
            .bind(self.change.environment.as_str())
            .bind(upstream)
            .fetch_optional(&mut **self.tx)
            .await?;
        if found.is_some() {
            return Ok(());
        }
        Err(StoreError::UnknownUpstream { id: id.to_owned(), upstream: upstream.to_owned() })
    }

    async fn check_collisions(&mut self, id: &str, route: &Route) -> Result<()> {
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT route_id, entity FROM routes \
             WHERE environment = $1 AND match_key = $2 AND route_id <> $3",
        )
        .bind(self.change.environment.as_str())
        .bind(match_key(route))
        .bind(id)
        .fetch_all(&mut **self.tx)
        .await?;
        for (other, entity) in rows {
            if parse_route(&entity)?.model.collides_with(&route.model) {
                return Err(StoreError::RouteCollision { id: id.to_owned(), other });
            }
        }
        Ok(())
    }

    async fn check_unused(&mut self, upstream: &Id) -> Result<()> {
        let route: Option<(String,)> = sqlx::query_as(
            "SELECT route_id FROM routes WHERE environment = $1 AND upstream_id = $2 LIMIT 1",
        )
        .bind(self.change.environment.as_str())
        .bind(upstream.as_str())
        .fetch_optional(&mut **self.tx)
        .await?;
        match route {
            Some((route,)) => Err(StoreError::UpstreamInUse { id: upstream.to_string(), route }),
            None => Ok(()),
        }
    }

    fn next_revision(&mut self, kind: EntityKind) -> Result<&mut NextRevision> {
        let next = match kind {
            EntityKind::Key => &mut self.keys,
            _ => &mut self.config,
        };
        next.as_mut().ok_or_else(|| broken("a write to a namespace that was not locked"))
    }

    /// Writes revisions, admin events and the request id.
    async fn finish(mut self, etags: Vec<String>) -> Result<Outcome> {
        let committed = Committed {
            at: from_us(self.now_us),
            keys_revision: self.keys.as_ref().map(|next| next.revision),
            config_revision: self.config.as_ref().map(|next| next.revision),
            etags,
        };
        for next in [self.config.take(), self.keys.take()].into_iter().flatten() {
            self.log_revision(next).await?;
        }
        let mut ids = Vec::with_capacity(self.change.ops.len());
        for op in &self.change.ops {
            let (kind, id) = op_object(op, &self.change.environment);
            tokens::log_admin_event(
                self.tx,
                &self.change.actor,
                self.change.action,
                self.change.environment.as_str(),
                (kind, id),
                self.now_us,
            )
            .await?;
            ids.push(id);
        }
        if let Some(request_id) = &self.change.request_id {
            sqlx::query(
                "INSERT INTO requests (environment, action, request_id, ids, at_us) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(self.change.environment.as_str())
            .bind(self.change.action)
            .bind(request_id)
            .bind(serde_json::to_string(&ids).map_err(broken)?)
            .bind(self.now_us)
            .execute(&mut **self.tx)
            .await?;
        }
        Ok(Outcome::Committed(committed))
    }

    async fn log_revision(&mut self, next: NextRevision) -> Result<()> {
        let environment = self.change.environment.as_str();
        let ns = match next.ns {
            Namespace::Keys => v1::Namespace::Keys,
            Namespace::Config => v1::Namespace::Config,
        };
        let digest = next.digest.to_bytes();
        let delta = v1::Delta {
            ns: ns.into(),
            epoch: next.epoch,
            from: next.revision.saturating_sub(1),
            to: next.revision,
            changes: next.changes,
            digest_after: digest.to_vec(),
        };
        let head =
            sqlx::query("UPDATE config_heads SET digest = $3 WHERE environment = $1 AND ns = $2")
                .bind(environment)
                .bind(ns_name(next.ns))
                .bind(&digest[..])
                .execute(&mut **self.tx)
                .await?;
        if head.rows_affected() == 0 {
            // The environment was deleted by this very change, and its history with it.
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO config_log (environment, ns, revision, delta, token_id, at_us) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(environment)
        .bind(ns_name(next.ns))
        .bind(to_i64(next.revision))
        .bind(delta.encode_to_vec())
        .bind(&self.change.actor.token_id)
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
        sqlx::query("DELETE FROM config_log WHERE environment = $1 AND ns = $2 AND revision <= $3")
            .bind(environment)
            .bind(ns_name(next.ns))
            .bind(to_i64(next.revision) - LOG_KEPT)
            .execute(&mut **self.tx)
            .await?;
        Ok(())
    }
}

/// The heads of a new environment, in an epoch of its own: what nodes hold of an earlier one of
/// the same name is worth nothing.
async fn create_heads(tx: &mut Tx, environment: &Id) -> Result<()> {
    for ns in [Namespace::Config, Namespace::Keys] {
        let created = sqlx::query(
            "INSERT INTO config_heads (environment, ns, epoch, revision, digest) \
             VALUES ($1, $2, $3, 0, $4) ON CONFLICT DO NOTHING",
        )
        .bind(environment.as_str())
        .bind(ns_name(ns))
        .bind(Uuid::now_v7().simple().to_string())
        .bind(&Digest::default().to_bytes()[..])
        .execute(&mut **tx)
        .await?;
        if created.rows_affected() == 0 {
            return Err(StoreError::Exists { kind: "environment", id: environment.to_string() });
        }
    }
    Ok(())
}

fn op_namespace(op: &Op) -> Namespace {
    match op {
        Op::PutKey(..) | Op::DeleteKey(..) => Namespace::Keys,
        Op::PutRoute(..)
        | Op::DeleteRoute(..)
        | Op::PutUpstream(..)
        | Op::DeleteUpstream(..)
        | Op::PutEnvironment(..)
        | Op::DeleteEnvironment(..) => Namespace::Config,
    }
}

/// The kind and id of what an op writes, for the admin event.
fn op_object<'a>(op: &'a Op, environment: &'a Id) -> (&'static str, &'a str) {
    match op {
        Op::PutKey(key, _) => (KEYS.name, key.key_id.as_str()),
        Op::DeleteKey(id, _) => (KEYS.name, id.as_str()),
        Op::PutRoute(route, _) => (ROUTES.name, route.model.route_id.as_str()),
        Op::DeleteRoute(id, _) => (ROUTES.name, id.as_str()),
        Op::PutUpstream(upstream, _) => (UPSTREAMS.name, upstream.model.upstream_id.as_str()),
        Op::DeleteUpstream(id, _) => (UPSTREAMS.name, id.as_str()),
        Op::PutEnvironment(..) | Op::DeleteEnvironment(_) => {
            (ENVIRONMENTS.name, environment.as_str())
        }
    }
}

/// A text that was given; `None` for an empty one.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Equal for routes that only their methods can tell apart.
fn match_key(route: &Route) -> String {
    format!("{:?} {:?} {}", route.model.host, route.model.path, route.model.priority)
}

fn as_entity(kind: EntityKind, id: &str, value: Vec<u8>) -> Entity {
    Entity { kind: kind.into(), id: id.to_owned(), value: value.into() }
}
