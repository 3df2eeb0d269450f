//! Writes and deletes objects, and notes each in the revision under way.

use std::slice;

use fastgate::{
    model::Id,
    node::v1::{Entity, EntityKind, EntityRef},
};
use prost::Message as _;

use super::{
    super::{Result, Tx, objects, value::not_found},
    Draft, given, match_key,
};
use crate::{
    domain::{ApiKey, Environment, Expect, Object, Op, Plan, Route, Upstream},
    store::StoreError,
};

/// What is in the store of an object that is about to be written.
struct Kept {
    entity: Vec<u8>,
    etag: String,
}

/// A table of objects.
pub(super) struct Table {
    kind: EntityKind,
    /// In messages and admin events.
    name: &'static str,
    pub(super) select: &'static str,
    delete: &'static str,
}

pub(super) const KEYS: Table = Table {
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

pub(super) const UPSTREAMS: Table = Table {
    kind: EntityKind::Upstream,
    name: "upstream",
    select: "SELECT entity, etag FROM upstreams WHERE environment = $1 AND upstream_id = $2",
    delete: "DELETE FROM upstreams WHERE environment = $1 AND upstream_id = $2",
};

pub(super) const PLANS: Table = Table {
    kind: EntityKind::Plan,
    name: "plan",
    select: "SELECT entity, etag FROM plans WHERE environment = $1 AND plan_id = $2",
    delete: "DELETE FROM plans WHERE environment = $1 AND plan_id = $2",
};

const ENVIRONMENTS: Table = Table {
    kind: EntityKind::Settings,
    name: "environment",
    select: "SELECT entity, etag FROM environments WHERE environment = $1 AND environment = $2",
    delete: "DELETE FROM environments WHERE environment = $1 AND environment = $2",
};

impl Draft<'_> {
    /// Writes one object; returns its new etag, empty for a delete.
    pub(super) async fn write(&mut self, op: &Op) -> Result<String> {
        match op {
            Op::PutKey(key, expect) => self.put_key(key, expect).await,
            Op::PutRoute(route, expect) => self.put_route(route, expect).await,
            Op::PutUpstream(upstream, expect) => self.put_upstream(upstream, expect).await,
            Op::PutPlan(plan, expect) => self.put_plan(plan, expect).await,
            Op::PutEnvironment(environment, expect) => {
                self.put_environment(environment, expect).await
            }
            Op::DeleteKey(id, expect) => self.delete(&KEYS, id, expect).await,
            Op::DeleteRoute(id, expect) => self.delete(&ROUTES, id, expect).await,
            Op::DeleteUpstream(id, expect) => self.delete(&UPSTREAMS, id, expect).await,
            Op::DeletePlan(id, expect) => self.delete(&PLANS, id, expect).await,
            Op::DeleteEnvironment(expect) => self.delete_environment(expect).await,
        }
    }

    async fn put_key(&mut self, key: &ApiKey, expect: &Expect) -> Result<String> {
        let entity = key.entity();
        let etag = self.replace(&KEYS, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO api_keys (environment, key_id, source_path, is_active, description, \
             entity, etag, created_us, updated_us, plan_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) \
             ON CONFLICT (environment, key_id) DO UPDATE SET source_path = $3, is_active = $4, \
             description = $5, entity = $6, etag = $7, updated_us = $8, plan_id = $9",
        )
        .bind(self.change.environment.as_str())
        .bind(key.key_id.as_str())
        .bind(&key.source_path)
        .bind(key.is_active)
        .bind(&key.description)
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .bind(given(&key.plan_id))
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

    async fn put_plan(&mut self, plan: &Plan, expect: &Expect) -> Result<String> {
        let entity = plan.entity();
        let etag = self.replace(&PLANS, &entity, expect).await?;
        sqlx::query(
            "INSERT INTO plans (environment, plan_id, entity, etag, created_us, updated_us) \
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (environment, plan_id) \
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
             etag, created_us, updated_us, rollout) VALUES ($1, $2, $3, $4, $5, $6, $6, $7) \
             ON CONFLICT (environment) DO UPDATE SET description = $2, \
             default_rate_limit = $3, entity = $4, etag = $5, updated_us = $6, rollout = $7",
        )
        .bind(&entity.id)
        .bind(&environment.description)
        .bind(environment.default_rate_limit)
        .bind(&entity.value[..])
        .bind(&etag)
        .bind(self.now_us)
        .bind(environment.rollout.as_ref().map(|policy| policy.wire.encode_to_vec()))
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
            "SELECT 1 FROM plans WHERE environment = $1 LIMIT 1",
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
            "DELETE FROM rollouts WHERE environment = $1",
            "DELETE FROM join_tokens WHERE environment = $1",
        ] {
            sqlx::query(delete).bind(id.as_str()).execute(&mut **self.tx).await?;
        }
        // Another environment of that name is not for the nodes of this one.
        sqlx::query(
            "UPDATE node_certificates SET revoked_us = $2 \
             WHERE environment = $1 AND revoked_us IS NULL",
        )
        .bind(id.as_str())
        .bind(self.now_us)
        .execute(&mut **self.tx)
        .await?;
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
        self.next_revision(table.kind)?.delete(kept.map(|kept| kept.entity), gone);
        Ok(String::new())
    }

    /// Notes that an entity takes the place of what was there; returns its new etag.
    async fn replace(&mut self, table: &Table, entity: &Entity, expect: &Expect) -> Result<String> {
        let kept = self.kept(table, &entity.id, expect).await?;
        let next = self.next_revision(table.kind)?;
        next.upsert(kept.map(|kept| kept.entity), entity)?;
        Ok(format!("{:x}", next.number))
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
}

/// What there is of the object an op puts.
pub(super) async fn held(tx: &mut Tx, environment: &Id, op: &Op) -> Result<Option<Object>> {
    Ok(match op {
        Op::PutKey(key, _) => {
            let found = objects::keys_named(tx, environment, slice::from_ref(&key.key_id)).await?;
            found.into_iter().next().map(Object::Key)
        }
        Op::PutRoute(route, _) => {
            let id = route.model.route_id.as_str();
            objects::ROUTES.one(tx, environment, id).await?.map(Box::new).map(Object::Route)
        }
        Op::PutUpstream(upstream, _) => {
            let id = upstream.model.upstream_id.as_str();
            objects::UPSTREAMS.one(tx, environment, id).await?.map(Object::Upstream)
        }
        Op::PutPlan(plan, _) => {
            let id = plan.model.plan_id.as_str();
            objects::PLANS.one(tx, environment, id).await?.map(Object::Plan)
        }
        Op::PutEnvironment(..) => {
            objects::environment(tx, environment.as_str()).await?.map(Object::Environment)
        }
        Op::DeleteKey(..)
        | Op::DeleteRoute(..)
        | Op::DeleteUpstream(..)
        | Op::DeletePlan(..)
        | Op::DeleteEnvironment(_) => None,
    })
}

pub(super) async fn is_there(
    tx: &mut Tx,
    environment: &Id,
    table: &Table,
    id: &str,
) -> Result<bool> {
    let found = sqlx::query(table.select)
        .bind(environment.as_str())
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

/// The kind and id of what an op writes, for the admin event.
pub(super) fn op_object<'a>(op: &'a Op, environment: &'a Id) -> (&'static str, &'a str) {
    match op {
        Op::PutKey(key, _) => (KEYS.name, key.key_id.as_str()),
        Op::DeleteKey(id, _) => (KEYS.name, id.as_str()),
        Op::PutRoute(route, _) => (ROUTES.name, route.model.route_id.as_str()),
        Op::DeleteRoute(id, _) => (ROUTES.name, id.as_str()),
        Op::PutUpstream(upstream, _) => (UPSTREAMS.name, upstream.model.upstream_id.as_str()),
        Op::DeleteUpstream(id, _) => (UPSTREAMS.name, id.as_str()),
        Op::PutPlan(plan, _) => (PLANS.name, plan.model.plan_id.as_str()),
        Op::DeletePlan(id, _) => (PLANS.name, id.as_str()),
        Op::PutEnvironment(..) | Op::DeleteEnvironment(_) => {
            (ENVIRONMENTS.name, environment.as_str())
        }
    }
}
