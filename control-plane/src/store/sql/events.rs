//! Audit events, as they are searched: newest first, page by page.

use fastgate::{admin::v1::LogEvent, audit::EventMatch};
use sqlx::{QueryBuilder, Row as _};

use super::{
    Db, FIND, Result, Tx,
    value::{from_us, to_i64, to_u64, to_us},
};
use crate::domain::{EventFilter, EventPage, EventPosition, put_recorded};

/// What a page holds at most, but for its last event: an answer of one is below the 4 MiB that
/// clients of gRPC take when nobody tells them otherwise.
const PAGE_BYTES: i64 = 2 << 20;

/// What an event has besides what clients may make long.
const EVENT_BYTES: i64 = 512;

pub(super) async fn list(
    tx: &mut Tx,
    filter: &EventFilter,
    after: Option<EventPosition>,
    limit: u32,
) -> Result<EventPage> {
    // What was recorded of bodies is measured where it is, and read of those events alone that fit.
    let mut query =
        QueryBuilder::<Db>::new("SELECT * FROM (SELECT *, count(*) OVER () AS found, sum(");
    query.push(EVENT_BYTES).push(
        " + octet_length(path) + octet_length(user_agent) + coalesce(octet_length(recorded), 0)) \
         OVER (ORDER BY at_us DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) \
         AS bytes_before FROM (SELECT * FROM events WHERE environment = ",
    );
    query.push_bind(filter.environment.as_str());
    query.push(" AND at_us >= ").push_bind(to_us(filter.from));
    query.push(" AND at_us < ").push_bind(to_us(filter.until));
    restrict(&mut query, &filter.matching);
    if let Some(after) = after {
        query.push(" AND (at_us, id) < (").push_bind(after.at_us);
        query.push(", ").push_bind(after.id).push(")");
    }
    query.push(" ORDER BY at_us DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.push(") AS matching) AS measured WHERE coalesce(bytes_before, 0) < ");
    query.push(PAGE_BYTES).push(" ORDER BY at_us DESC, id DESC");
    let rows = query.build().fetch_all(&mut **tx).await?;
    let found = rows.first().map_or(Ok(0), |row| row.try_get("found"))?;
    let events = rows.iter().map(event_of).collect::<sqlx::Result<Vec<_>>>()?;
    let left_out = to_u64(found).saturating_sub(events.len() as u64);
    Ok(EventPage { events, left_out })
}

fn restrict<'a>(query: &mut QueryBuilder<Db>, asked: &'a EventMatch) {
    let equal: [(&str, &'a Option<String>); 10] = [
        ("key_id", &asked.key_id),
        ("source_path", &asked.source_path),
        ("method", &asked.method),
        ("request_id", &asked.request_id),
        ("route_id", &asked.route_id),
        ("target_url", &asked.target_url),
        ("error", &asked.error),
        ("ip_address", &asked.ip_address),
        ("node_id", &asked.node_id),
        ("response_end", &asked.response_end),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
    }
    // Not LIKE: its wildcards and its idea of letter case differ between databases.
    if let Some(prefix) = &asked.path_prefix {
        let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
        query.push(" AND substr(path, 1, ").push_bind(length);
        query.push(") = ").push_bind(prefix.clone());
    }
    let within = [("path", &asked.path_contains), ("user_agent", &asked.user_agent_contains)];
    for (column, text) in within {
        if let Some(text) = text {
            query.push(" AND ").push(FIND).push("(").push(column).push(", ");
            query.push_bind(text.clone()).push(") > 0");
        }
    }
    if let Some((first, last)) = asked.status {
        query.push(" AND status_code BETWEEN ").push_bind(i32::from(first));
        query.push(" AND ").push_bind(i32::from(last));
    }
    if let Some(rate_limited) = asked.rate_limited {
        query.push(" AND rate_limited = ").push_bind(rate_limited);
    }
    if let Some(version) = asked.secret_version {
        query.push(" AND secret_version = ").push_bind(i64::from(version));
    }
    let least = [
        ("attempts", asked.min_attempts.map(u64::from)),
        ("request_size", asked.min_request_size),
        ("response_size", asked.min_response_size),
        ("response_chunks", asked.min_response_chunks.map(u64::from)),
    ];
    for (column, least) in least {
        if let Some(least) = least {
            query.push(" AND ").push(column).push(" >= ").push_bind(to_i64(least));
        }
    }
    let longest = [
        ("response_time_ms", asked.min_response_time_ms),
        ("upstream_time_ms", asked.min_upstream_time_ms),
        ("ttfb_ms", asked.min_ttfb_ms),
    ];
    for (column, least) in longest {
        if let Some(least) = least {
            query.push(" AND ").push(column).push(" >= ").push_bind(least);
        }
    }
}

fn event_of(row: &<Db as sqlx::Database>::Row) -> sqlx::Result<(EventPosition, LogEvent)> {
    let position = EventPosition { at_us: row.try_get("at_us")?, id: row.try_get("id")? };
    let mut event = LogEvent {
        timestamp: Some(from_us(position.at_us).into()),
        request_id: row.try_get("request_id")?,
        key_id: row.try_get("key_id")?,
        source_path: row.try_get("source_path")?,
        method: row.try_get("method")?,
        path: row.try_get("path")?,
        target_url: row.try_get("target_url")?,
        status_code: row.try_get::<i16, _>("status_code")?.into(),
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
        attempts: row.try_get::<i16, _>("attempts")?.into(),
        error: row.try_get("error")?,
        rate_limited: row.try_get("rate_limited")?,
        secret_version: row.try_get::<i64, _>("secret_version")?.try_into().unwrap_or(u32::MAX),
        response_chunks: row.try_get::<i64, _>("response_chunks")?.try_into().unwrap_or(u32::MAX),
        response_end: row.try_get("response_end")?,
        ..LogEvent::default()
    };
    if let Some(kept) = row.try_get::<Option<String>, _>("recorded")? {
        put_recorded(&kept, &mut event).map_err(|fault| sqlx::Error::Decode(fault.into()))?;
    }
    Ok((position, event))
}
