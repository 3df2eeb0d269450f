//! Audit events: stored batch by batch, listed page by page.

use std::{collections::BTreeMap, time::SystemTime};

use fastgate::admin::v1::LogEvent;
use sqlx::{FromRow as _, Row as _};

use super::{
    Db, Result, Tx,
    value::{from_us, to_i64, to_u64, to_us},
};
use crate::{
    domain::{EventBatch, EventFilter},
    store::{Cursor, Page},
};

/// Rows of one statement: 23 values each stay below the 32,766 SQLite takes.
const ROWS: usize = 1000;

const COLUMNS: &str = "event_id, at_us, environment, node_id, request_id, key_id, source_path, \
     secret_version, route_id, method, path, target_url, status_code, response_time_ms, \
     upstream_time_ms, ttfb_ms, request_size, response_size, user_agent, ip_address, attempts, \
     error, rate_limited";

pub(super) async fn append(tx: &mut Tx, batch: &EventBatch) -> Result<bool> {
    let added = sqlx::query(
        "INSERT INTO event_batches (node_id, boot_id, first_seq, events, at_us) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&batch.node_id)
    .bind(&batch.boot_id)
    .bind(to_i64(batch.first_seq))
    .bind(to_i64(batch.events.len() as u64))
    .bind(to_us(SystemTime::now()))
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    let mut seq = batch.first_seq;
    for events in batch.events.chunks(ROWS) {
        insert(tx, batch, seq, events).await?;
        seq += events.len() as u64;
    }
    count_usage(tx, batch).await?;
    Ok(true)
}

async fn insert(
    tx: &mut Tx,
    batch: &EventBatch,
    first_seq: u64,
    events: &[LogEvent],
) -> Result<()> {
    let mut query = sqlx::QueryBuilder::<Db>::new("INSERT INTO events (");
    query.push(COLUMNS).push(") ");
    query.push_values((first_seq..).zip(events), |mut row, (seq, event)| {
        row.push_bind(format!("{}.{seq:020}", batch.boot_id))
            .push_bind(at_us(event))
            .push_bind(batch.environment.as_str())
            .push_bind(&batch.node_id)
            .push_bind(text(&event.request_id))
            .push_bind(text(&event.key_id))
            .push_bind(text(&event.source_path))
            .push_bind(i64::from(event.secret_version))
            .push_bind(text(&event.route_id))
            .push_bind(text(&event.method))
            .push_bind(text(&event.path))
            .push_bind(text(&event.target_url))
            .push_bind(i64::from(event.status_code))
            .push_bind(event.response_time_ms)
            .push_bind(event.upstream_time_ms)
            .push_bind(event.ttfb_ms)
            .push_bind(to_i64(event.request_size))
            .push_bind(to_i64(event.response_size))
            .push_bind(text(&event.user_agent))
            .push_bind(text(&event.ip_address))
            .push_bind(i64::from(event.attempts))
            .push_bind(text(&event.error))
            .push_bind(event.rate_limited);
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Counts the batch's use of each key. In the order of the ids, so that two batches never wait
/// for each other crosswise.
async fn count_usage(tx: &mut Tx, batch: &EventBatch) -> Result<()> {
    let mut used: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for event in batch.events.iter().filter(|event| !event.key_id.is_empty()) {
        let (count, last_us) = used.entry(text(&event.key_id)).or_default();
        *count += 1;
        *last_us = at_us(event).max(*last_us);
    }
    for (key_id, (count, last_us)) in used {
        sqlx::query(
            "INSERT INTO key_usage (environment, key_id, used, last_used_us) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (environment, key_id) DO UPDATE SET \
             used = key_usage.used + $3, last_used_us = CASE \
             WHEN key_usage.last_used_us > $4 THEN key_usage.last_used_us ELSE $4 END",
        )
        .bind(batch.environment.as_str())
        .bind(key_id)
        .bind(count)
        .bind(last_us)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

pub(super) async fn list(
    tx: &mut Tx,
    filter: &EventFilter,
    page: &Page,
) -> Result<Vec<(Cursor, LogEvent)>> {
    let mut query = sqlx::QueryBuilder::<Db>::new("SELECT ");
    query.push(COLUMNS).push(" FROM events WHERE environment = ");
    query.push_bind(filter.environment.as_str());
    query.push(" AND at_us >= ").push_bind(to_us(filter.from));
    query.push(" AND at_us < ").push_bind(to_us(filter.until));
    let equal = [
        (" AND key_id = ", &filter.key_id),
        (" AND source_path = ", &filter.source_path),
        (" AND method = ", &filter.method),
        (" AND request_id = ", &filter.request_id),
        (" AND route_id = ", &filter.route_id),
    ];
    for (condition, value) in equal {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if let Some(prefix) = &filter.path_prefix {
        // Not LIKE: its wildcards and its idea of letter case differ between databases.
        let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
        query.push(" AND substr(path, 1, ").push_bind(length);
        query.push(") = ").push_bind(prefix);
    }
    if let Some((first, last)) = filter.status {
        query.push(" AND status_code BETWEEN ").push_bind(i64::from(first));
        query.push(" AND ").push_bind(i64::from(last));
    }
    if let Some(after) = &page.after {
        query.push(" AND (at_us, event_id) < (").push_bind(after.at_us);
        query.push(", ").push_bind(&after.id).push(")");
    }
    query.push(" ORDER BY at_us DESC, event_id DESC LIMIT ").push_bind(i64::from(page.limit));
    let rows = query.build().fetch_all(&mut **tx).await?;
    Ok(rows.iter().map(event_of).collect::<sqlx::Result<_>>()?)
}

fn event_of(row: &<Db as sqlx::Database>::Row) -> sqlx::Result<(Cursor, LogEvent)> {
    let (event_id, at_us) = <(String, i64)>::from_row(row)?;
    let event = LogEvent {
        timestamp: Some(from_us(at_us).into()),
        request_id: row.try_get("request_id")?,
        key_id: row.try_get("key_id")?,
        source_path: row.try_get("source_path")?,
        method: row.try_get("method")?,
        path: row.try_get("path")?,
        target_url: row.try_get("target_url")?,
        status_code: narrow(row.try_get("status_code")?),
        response_time_ms: row.try_get("response_time_ms")?,
        request_size: to_u64(row.try_get("request_size")?),
        response_size: to_u64(row.try_get("response_size")?),
        user_agent: row.try_get("user_agent")?,
        ip_address: row.try_get("ip_address")?,
        environment: row.try_get("environment")?,
        node_id: row.try_get("node_id")?,
        route_id: row.try_get("route_id")?,
        upstream_time_ms: row.try_get("upstream_time_ms")?,
        ttfb_ms: row.try_get("ttfb_ms")?,
        attempts: narrow(row.try_get("attempts")?),
        error: row.try_get("error")?,
        rate_limited: row.try_get("rate_limited")?,
        secret_version: row.try_get::<i64, _>("secret_version")?.try_into().unwrap_or(u32::MAX),
    };
    Ok((Cursor { at_us, id: event_id }, event))
}

/// When the event happened; a node that does not say counts as now.
fn at_us(event: &LogEvent) -> i64 {
    let time = event.timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok());
    to_us(time.unwrap_or_else(SystemTime::now))
}

/// What clients sent may hold a NUL, which Postgres keeps in no text.
fn text(value: &str) -> String {
    value.replace('\0', "\u{fffd}")
}

fn narrow(number: i64) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
