//! Batches of audit events on their way in: each event once, in one transaction with all that is
//! counted of it.
//!
//! Nothing here waits for another batch but one of the same boot: what batches add to the same sums
//! stands side by side until [`super::rollups`] adds it up.

use std::time::SystemTime;

use fastgate::{admin::v1::LogEvent, audit::narrow};

use super::{
    Result, Rows, Tx, gaps, parts,
    value::{to_i64, to_us},
};
use crate::{
    domain::{EventBatch, Kind, Rollup, Step, recorded_of},
    store::Appended,
};

/// The columns of an event but for its number, which the table gives it.
const COLUMNS: &[&str] = &[
    "at_us",
    "request_size",
    "response_size",
    "response_time_ms",
    "upstream_time_ms",
    "ttfb_ms",
    "secret_version",
    "status_code",
    "attempts",
    "rate_limited",
    "environment",
    "node_id",
    "request_id",
    "key_id",
    "source_path",
    "route_id",
    "method",
    "path",
    "target_url",
    "user_agent",
    "ip_address",
    "error",
    "response_chunks",
    "response_end",
    "recorded",
];

/// How far ahead of the clock here a time may be. What is further ahead is no time of a request: it
/// counts as the time of its arrival, or no list would show it and no retention end it.
const AHEAD_US: i64 = 24 * 3_600_000_000;

/// Stores what is new of a batch: all of its events or none.
pub(super) async fn append(tx: &mut Tx, batch: &EventBatch, now: SystemTime) -> Result<Appended> {
    let now_us = to_us(now);
    let lost = gaps::store(tx, batch, now_us).await?;
    if batch.is_empty() {
        return Ok(Appended { events: 0, lost });
    }
    // Whoever stores the same batch at the same time waits here, and then finds it stored.
    let advanced = sqlx::query(
        "INSERT INTO event_boots (node_id, boot_id, next_seq, at_us) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (node_id, boot_id) DO UPDATE SET next_seq = $3, at_us = $4 \
         WHERE event_boots.next_seq <= $5",
    )
    .bind(&batch.node_id)
    .bind(&batch.boot_id)
    .bind(to_i64(batch.first_seq.saturating_add(batch.len())))
    .bind(now_us)
    .bind(to_i64(batch.first_seq))
    .execute(&mut **tx)
    .await?;
    if advanced.rows_affected() == 0 {
        return Ok(Appended { events: 0, lost });
    }
    let mut rows = Rows::new("events", COLUMNS);
    let mut rollup = Rollup::new();
    for event in &batch.events {
        let at_us = at_us(event, now_us);
        put(&mut rows, batch, event, at_us);
        count(&mut rollup, event, at_us);
    }
    for event in &batch.counted {
        count(&mut rollup, event, at_us(event, now_us));
    }
    rows.store(tx).await?;
    parts::add(tx, batch.environment.as_str(), &rollup).await?;
    Ok(Appended { events: batch.len(), lost })
}

/// In the order of [`COLUMNS`].
fn put(rows: &mut Rows, batch: &EventBatch, event: &LogEvent, at_us: i64) {
    rows.begin();
    rows.bigint(at_us);
    rows.bigint(to_i64(event.request_size));
    rows.bigint(to_i64(event.response_size));
    rows.double(event.response_time_ms);
    rows.double(event.upstream_time_ms);
    rows.double(event.ttfb_ms);
    rows.bigint(event.secret_version.into());
    rows.smallint(narrow(event.status_code));
    rows.smallint(narrow(event.attempts));
    rows.boolean(event.rate_limited);
    rows.text(batch.environment.as_str());
    rows.text(&batch.node_id);
    rows.text(&event.request_id);
    rows.text(&event.key_id);
    rows.text(&event.source_path);
    rows.text(&event.route_id);
    rows.text(&event.method);
    rows.text(&event.path);
    rows.text(&event.target_url);
    rows.text(&event.user_agent);
    rows.text(&event.ip_address);
    rows.text(&event.error);
    rows.bigint(event.response_chunks.into());
    rows.text(&event.response_end);
    rows.text_or_null(recorded_of(event).as_deref());
}

fn count<'a>(rollup: &mut Rollup<&'a str>, event: &'a LogEvent, at_us: i64) {
    let kind = Kind {
        at_us: Step::Minute.floor(at_us),
        key_id: Some(event.key_id.as_str()),
        source_path: event.source_path.as_str(),
        route_id: event.route_id.as_str(),
        target_url: event.target_url.as_str(),
        error: event.error.as_str(),
        status_code: narrow(event.status_code),
    };
    let sums = rollup.entry(kind).or_default();
    sums.requests += 1;
    sums.rate_limited += u64::from(event.rate_limited);
    sums.request_bytes = sums.request_bytes.saturating_add(event.request_size);
    sums.response_bytes = sums.response_bytes.saturating_add(event.response_size);
    sums.last_us = sums.last_us.max(at_us);
    sums.latency.record(event.response_time_ms);
}

/// When the event happened; a node that does not say counts as now.
fn at_us(event: &LogEvent, now_us: i64) -> i64 {
    let time = event.timestamp.and_then(|timestamp| SystemTime::try_from(timestamp).ok());
    time.map(to_us).filter(|at_us| *at_us <= now_us + AHEAD_US).unwrap_or(now_us)
}
