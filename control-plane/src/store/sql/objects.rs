//! Keys, routes, upstreams, plans and environments: what lists and look-ups read.

use std::time::{Duration, SystemTime};

use fastgate::{admin::v1, model::Id, node::v1::KeyRecord, secret::SecretHash};
use prost::Message;

use super::{
    Connection, Db, ROWS, Result, Tx, WANTED_KEYS, revisions, rollouts, rollups,
    value::{broken, from_us, id, not_found, to_u64},
};
use crate::{
    domain::{ApiKey, ApiSecret, Environment, Namespace, Plan, Route, Stored, Upstream, Usage},
    store::{Held, KeyFilter, Page},
};

/// The columns every object has: entity, etag, created, updated.
type Common = (Vec<u8>, String, i64, i64);

/// Those of a key, then its description, use count and last use.
type KeyRow = (Vec<u8>, String, i64, i64, String, Option<i64>, Option<i64>);

const KEYS: &str = "SELECT k.entity, k.etag, k.created_us, k.updated_us, k.description, u.used, \
     u.last_used_us FROM api_keys k LEFT JOIN key_usage u \
     ON u.environment = k.environment AND u.key_id = k.key_id WHERE k.environment = ";

/// The use of a key, where it is asked for: two look-ups, which no planner makes a join of.
const USE: &str = "(SELECT u.used FROM key_usage u WHERE u.environment = k.environment \
     AND u.key_id = k.key_id), (SELECT u.last_used_us FROM key_usage u \
     WHERE u.environment = k.environment AND u.key_id = k.key_id)";

const NO_USE: &str = "CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)";

/// Those of a few keys that are there, with their use, in no order.
pub(super) async fn keys_used(
    tx: &mut Tx,
    environment: &Id,
    key_ids: &[Id],
) -> Result<Vec<(Stored<ApiKey>, Usage)>> {
    let mut found = named(tx, environment, key_ids, USE).await?;
    add_unsettled_use(tx, environment, &mut found).await?;
    Ok(found)
}

pub(super) async fn keys_named(
    connection: &mut Connection,
    environment: &Id,
    key_ids: &[Id],
) -> Result<Vec<Stored<ApiKey>>> {
    let mut found = Vec::new();
    for some in key_ids.chunks(ROWS) {
        let keys = named(connection, environment, some, NO_USE).await?;
        found.extend(keys.into_iter().map(|(key, _)| key));
    }
    Ok(found)
}

async fn named(
    connection: &mut Connection,
    environment: &Id,
    key_ids: &[Id],
    usage: &str,
) -> Result<Vec<(Stored<ApiKey>, Usage)>> {
    let columns = format!("k.entity, k.etag, k.created_us, k.updated_us, k.description, {usage}");
    let mut query = select_named(&columns, environment, key_ids.iter().map(Id::as_str));
    let rows: Vec<KeyRow> = query.build_query_as().fetch_all(connection).await?;
    rows.into_iter().map(key_of).collect()
}

/// Reads columns of those of the keys that are there.
pub(super) fn select_named<'a>(
    columns: &str,
    environment: &'a Id,
    key_ids: impl Iterator<Item = &'a str>,
) -> sqlx::QueryBuilder<Db> {
    let mut query = sqlx::QueryBuilder::<Db>::new("WITH wanted (key_id) AS (");
    query.push_values(key_ids, |mut row, key_id| {
        row.push_bind(key_id);
    });
    query.push(") SELECT ").push(columns).push(" FROM ").push(WANTED_KEYS.0);
    query.push_bind(environment.as_str()).push(WANTED_KEYS.1);
    query
}

pub(super) async fn keys(
    tx: &mut Tx,
    environment: &Id,
    filter: &KeyFilter,
    page: &Page,
) -> Result<Vec<(Stored<ApiKey>, Usage)>> {
    let mut query = sqlx::QueryBuilder::<Db>::new(KEYS);
    query.push_bind(environment.as_str());
    if let Some(source_path) = &filter.source_path {
        query.push(" AND k.source_path = ").push_bind(source_path);
    }
    if let Some(is_active) = filter.is_active {
        query.push(" AND k.is_active = ").push_bind(is_active);
    }
    if let Some(plan_id) = &filter.plan_id {
        query.push(" AND k.plan_id = ").push_bind(plan_id);
    }
    if let Some(after) = &page.after {
        query.push(" AND (k.created_us, k.key_id) < (").push_bind(after.at_us);
        query.push(", ").push_bind(&after.id).push(")");
    }
    query
        .push(" ORDER BY k.created_us DESC, k.key_id DESC LIMIT ")
        .push_bind(i64::from(page.limit));
    let rows: Vec<KeyRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    let mut found = rows.into_iter().map(key_of).collect::<Result<Vec<_>>>()?;
    add_unsettled_use(tx, environment, &mut found).await?;
    Ok(found)
}

/// Adds what was not added up yet, so that the use of keys is exact.
async fn add_unsettled_use(
    tx: &mut Tx,
    environment: &Id,
    keys: &mut [(Stored<ApiKey>, Usage)],
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = keys.iter().map(|(key, _)| key.object.key_id.as_str()).collect();
    let used = rollups::unsettled_use(tx, environment.as_str(), names.into_iter()).await?;
    for (key, usage) in keys {
        if let Some((count, last_us)) = used.get(key.object.key_id.as_str())
            && *count > 0
        {
            usage.count = usage.count.saturating_add(*count);
            usage.last_used_at = usage.last_used_at.max(Some(from_us(*last_us)));
        }
    }
    Ok(())
}

/// All routes, upstreams and plans.
pub(super) async fn config(tx: &mut Tx, environment: &Id) -> Result<Held> {
    let head = revisions::head(tx, environment, Namespace::Config).await?;
    let head = head.ok_or_else(|| not_found("environment", environment.as_str()))?;
    let all = Page { after: None, limit: u32::MAX };
    Ok(Held {
        revision: head.revision,
        upstreams: UPSTREAMS.page(tx, environment, &all).await?,
        routes: ROUTES.page(tx, environment, &all).await?,
        plans: PLANS.page(tx, environment, &all).await?,
    })
}

/// A table of objects of which the entity says everything.
pub(super) struct Table<T> {
    one: &'static str,
    page: &'static str,
    parse: fn(&[u8]) -> Result<T>,
}

pub(super) const ROUTES: Table<Route> = Table {
    one: "SELECT entity, etag, created_us, updated_us FROM routes \
          WHERE environment = $1 AND route_id = $2",
    page: "SELECT entity, etag, created_us, updated_us FROM routes \
           WHERE environment = $1 AND route_id > $2 ORDER BY route_id LIMIT $3",
    parse: parse_route,
};

pub(super) const UPSTREAMS: Table<Upstream> = Table {
    one: "SELECT entity, etag, created_us, updated_us FROM upstreams \
          WHERE environment = $1 AND upstream_id = $2",
    page: "SELECT entity, etag, created_us, updated_us FROM upstreams \
           WHERE environment = $1 AND upstream_id > $2 ORDER BY upstream_id LIMIT $3",
    parse: parse_upstream,
};

pub(super) const PLANS: Table<Plan> = Table {
    one: "SELECT entity, etag, created_us, updated_us FROM plans \
          WHERE environment = $1 AND plan_id = $2",
    page: "SELECT entity, etag, created_us, updated_us FROM plans \
           WHERE environment = $1 AND plan_id > $2 ORDER BY plan_id LIMIT $3",
    parse: parse_plan,
};

impl<T> Table<T> {
    pub(super) async fn one(
        &self,
        connection: &mut Connection,
        environment: &Id,
        id: &str,
    ) -> Result<Option<Stored<T>>> {
        let row: Option<Common> = sqlx::query_as(self.one)
            .bind(environment.as_str())
            .bind(id)
            .fetch_optional(connection)
            .await?;
        row.map(|row| stored(row, self.parse)).transpose()
    }

    pub(super) async fn page(
        &self,
        tx: &mut Tx,
        environment: &Id,
        page: &Page,
    ) -> Result<Vec<Stored<T>>> {
        let rows: Vec<Common> = sqlx::query_as(self.page)
            .bind(environment.as_str())
            .bind(after(page))
            .bind(i64::from(page.limit))
            .fetch_all(&mut **tx)
            .await?;
        rows.into_iter().map(|row| stored(row, self.parse)).collect()
    }
}

type EnvironmentRow = (String, String, Option<i64>, String, i64, i64, Option<Vec<u8>>);

pub(super) async fn environment(
    connection: &mut Connection,
    environment: &str,
) -> Result<Option<Stored<Environment>>> {
    let row: Option<EnvironmentRow> = sqlx::query_as(
        "SELECT environment, description, default_rate_limit, etag, created_us, updated_us, rollout \
         FROM environments WHERE environment = $1",
    )
    .bind(environment)
    .fetch_optional(connection)
    .await?;
    row.map(environment_of).transpose()
}

pub(super) async fn environments(tx: &mut Tx, page: &Page) -> Result<Vec<Stored<Environment>>> {
    let rows: Vec<EnvironmentRow> = sqlx::query_as(
        "SELECT environment, description, default_rate_limit, etag, created_us, updated_us, rollout \
         FROM environments WHERE environment > $1 ORDER BY environment LIMIT $2",
    )
    .bind(after(page))
    .bind(i64::from(page.limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(environment_of).collect()
}

/// Where a list ordered by id goes on. No id is empty, so the empty text is before all.
fn after(page: &Page) -> &str {
    page.after.as_ref().map_or("", |cursor| &cursor.id)
}

fn stored<T>(
    (entity, etag, created_us, updated_us): Common,
    parse: fn(&[u8]) -> Result<T>,
) -> Result<Stored<T>> {
    Ok(Stored {
        object: parse(&entity)?,
        created_at: from_us(created_us),
        updated_at: from_us(updated_us),
        etag,
    })
}

pub(super) fn parse_route(entity: &[u8]) -> Result<Route> {
    let wire = v1::Route::decode(entity).map_err(broken)?;
    Route::parse(wire).map_err(broken)
}

pub(super) fn parse_upstream(entity: &[u8]) -> Result<Upstream> {
    let wire = v1::Upstream::decode(entity).map_err(broken)?;
    Upstream::parse(wire).map_err(broken)
}

pub(super) fn parse_plan(entity: &[u8]) -> Result<Plan> {
    let wire = v1::Plan::decode(entity).map_err(broken)?;
    Plan::parse(wire).map_err(broken)
}

fn environment_of(row: EnvironmentRow) -> Result<Stored<Environment>> {
    let (environment, description, default_rate_limit, etag, created_us, updated_us, rollout) = row;
    let rollout = rollout.as_deref().map(rollouts::policy_of).transpose()?;
    Ok(Stored {
        object: Environment { id: id(&environment)?, description, default_rate_limit, rollout },
        created_at: from_us(created_us),
        updated_at: from_us(updated_us),
        etag,
    })
}

fn key_of(row: KeyRow) -> Result<(Stored<ApiKey>, Usage)> {
    let (entity, etag, created_us, updated_us, description, used, last_used_us) = row;
    let record = KeyRecord::decode(&entity[..]).map_err(broken)?;
    let secrets: Result<_> = record
        .secrets
        .iter()
        .map(|secret| {
            let hash = SecretHash::from_bytes(&secret.hash);
            Ok(ApiSecret {
                version: secret.version,
                hash: hash.ok_or_else(|| broken("a secret hash of another length"))?,
                created_at: from_ms(secret.created_at_ms),
                expires_at: secret.expires_at_ms.map(from_ms),
            })
        })
        .collect();
    let object = ApiKey {
        key_id: id(&record.key_id)?,
        source_path: record.source_path,
        permissions: record.permissions,
        expires_at: record.expires_at_ms.map(from_ms),
        is_active: record.is_active,
        rate_limit: record.rate_limit,
        rate_limit_fallback: record.rate_limit_fallback,
        plan_id: record.plan_id,
        description,
        limits_reset_at: record.limits_reset_at_ms.map(from_ms),
        secrets: secrets?,
    };
    let usage = Usage { count: to_u64(used.unwrap_or(0)), last_used_at: last_used_us.map(from_us) };
    let created_at = from_us(created_us);
    Ok((Stored { object, created_at, updated_at: from_us(updated_us), etag }, usage))
}

fn from_ms(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(to_u64(ms))
}
