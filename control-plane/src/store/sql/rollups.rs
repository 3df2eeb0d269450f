//! Requests added up: batches leave what they add to a sum beside what others left
//! ([`PARTS`]), and once a minute is over one transaction takes that out and adds it to the sums
//! of minutes, hours and days and to the use of keys.
//!
//! So batches never wait for each other's rows, and whoever reads sums of a table and the parts in
//! one snapshot misses nothing and counts nothing twice.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row as _;

use super::{
    Db, ROWS, Result, Rows, Tx,
    value::{broken, to_i64, to_u64},
};
use crate::domain::{Histogram, Kind, Rollup, Step, Sums};

/// Where batches leave what they add.
pub(super) const PARTS: &str = "rollup_parts";

const COLUMNS: &[&str] = &[
    "at_us",
    "requests",
    "rate_limited",
    "request_bytes",
    "response_bytes",
    "last_us",
    "status_code",
    "environment",
    "key_id",
    "source_path",
    "route_id",
    "target_url",
    "error",
    "latency",
];

/// Where the sums over a step are.
pub(super) fn table(step: Step) -> &'static str {
    match step {
        Step::Minute => "rollup_minutes",
        Step::Hour => "rollup_hours",
        Step::Day => "rollup_days",
    }
}

/// Adds rows to a table.
pub(super) async fn add<S: AsRef<str>>(
    tx: &mut Tx,
    table: &'static str,
    environment: &str,
    rollup: &Rollup<S>,
) -> Result<()> {
    let mut rows = Rows::new(table, COLUMNS);
    for (kind, sums) in rollup {
        rows.begin();
        rows.bigint(kind.at_us);
        rows.bigint(to_i64(sums.requests));
        rows.bigint(to_i64(sums.rate_limited));
        rows.bigint(to_i64(sums.request_bytes));
        rows.bigint(to_i64(sums.response_bytes));
        rows.bigint(sums.last_us);
        rows.smallint(kind.status_code);
        rows.text(environment);
        rows.text_or_null(kind.key_id.as_ref().map(AsRef::as_ref));
        rows.text(kind.source_path.as_ref());
        rows.text(kind.route_id.as_ref());
        rows.text(kind.target_url.as_ref());
        rows.text(kind.error.as_ref());
        rows.blob(&sums.latency.to_bytes());
    }
    Ok(rows.store(tx).await?)
}

/// The oldest minute there are parts of.
pub(super) async fn oldest_part(tx: &mut Tx) -> Result<Option<i64>> {
    let query = sqlx::query_scalar("SELECT MIN(at_us) FROM rollup_parts");
    Ok(query.fetch_one(&mut **tx).await?)
}

/// Takes the parts of minutes from one time to another, in one hour, into the sums.
pub(super) async fn settle(tx: &mut Tx, from_us: i64, until_us: i64) -> Result<()> {
    for (environment, taken) in take(tx, from_us, until_us).await? {
        count_usage(tx, &environment, &taken).await?;
        let taken = with_all_keys(taken);
        add(tx, table(Step::Minute), &environment, &taken).await?;
        for step in [Step::Hour, Step::Day] {
            let mut sums = coarser(&taken, step);
            for (kind, more) in take_sums(tx, &environment, step, from_us).await? {
                sums.entry(kind).or_default().add(&more);
            }
            add(tx, table(step), &environment, &sums).await?;
        }
    }
    Ok(())
}

/// Adds up the parts from a time on, and leaves them parts: there are fewer of them.
pub(super) async fn gather(tx: &mut Tx, from_us: i64) -> Result<()> {
    for (environment, taken) in take(tx, from_us, i64::MAX).await? {
        add(tx, PARTS, &environment, &taken).await?;
    }
    Ok(())
}

/// By environment.
async fn take(
    tx: &mut Tx,
    from_us: i64,
    until_us: i64,
) -> Result<BTreeMap<String, Rollup<String>>> {
    let mut query = sqlx::QueryBuilder::<Db>::new("DELETE FROM rollup_parts WHERE at_us >= ");
    query.push_bind(from_us).push(" AND at_us < ").push_bind(until_us);
    query.push(" RETURNING ").push(COLUMNS.join(", "));
    let mut taken: BTreeMap<String, Rollup<String>> = BTreeMap::new();
    for row in query.build().fetch_all(&mut **tx).await? {
        let rollup = taken.entry(row.try_get("environment")?).or_default();
        rollup.entry(kind_of(&row)?).or_default().add(&sums_of(&row)?);
    }
    Ok(taken)
}

/// The sums of the step a time lies in.
async fn take_sums(
    tx: &mut Tx,
    environment: &str,
    step: Step,
    at_us: i64,
) -> Result<Rollup<String>> {
    let mut query = sqlx::QueryBuilder::<Db>::new("DELETE FROM ");
    query.push(table(step)).push(" WHERE environment = ").push_bind(environment);
    query.push(" AND at_us = ").push_bind(step.floor(at_us));
    query.push(" RETURNING ").push(COLUMNS.join(", "));
    let mut taken: Rollup<String> = Rollup::new();
    for row in query.build().fetch_all(&mut **tx).await? {
        taken.entry(kind_of(&row)?).or_default().add(&sums_of(&row)?);
    }
    Ok(taken)
}

/// What is there, and the sums of all keys.
fn with_all_keys(mut rollup: Rollup<String>) -> Rollup<String> {
    let mut all = Rollup::new();
    for (kind, sums) in &rollup {
        all.entry(Kind { key_id: None, ..kind.clone() }).or_insert_with(Sums::default).add(sums);
    }
    rollup.extend(all);
    rollup
}

fn coarser(rollup: &Rollup<String>, step: Step) -> Rollup<String> {
    let mut coarser = Rollup::new();
    for (kind, sums) in rollup {
        let kind = Kind { at_us: step.floor(kind.at_us), ..kind.clone() };
        coarser.entry(kind).or_insert_with(Sums::default).add(sums);
    }
    coarser
}

async fn count_usage(tx: &mut Tx, environment: &str, rollup: &Rollup<String>) -> Result<()> {
    let mut used: HashMap<&str, (u64, i64)> = HashMap::new();
    for (kind, sums) in rollup {
        let Some(key_id) = kind.key_id.as_deref().filter(|key_id| !key_id.is_empty()) else {
            continue;
        };
        let (count, last_us) = used.entry(key_id).or_default();
        *count = count.saturating_add(sums.requests);
        *last_us = sums.last_us.max(*last_us);
    }
    let used: Vec<_> = used.into_iter().collect();
    for some in used.chunks(ROWS) {
        let mut upsert = sqlx::QueryBuilder::<Db>::new(
            "INSERT INTO key_usage (environment, key_id, used, last_used_us) ",
        );
        upsert.push_values(some, |mut row, (key_id, (count, last_us))| {
            row.push_bind(environment)
                .push_bind(*key_id)
                .push_bind(to_i64(*count))
                .push_bind(*last_us);
        });
        upsert.push(
            " ON CONFLICT (environment, key_id) DO UPDATE SET \
             used = key_usage.used + excluded.used, last_used_us = CASE \
             WHEN key_usage.last_used_us > excluded.last_used_us \
             THEN key_usage.last_used_us ELSE excluded.last_used_us END",
        );
        upsert.build().execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) fn kind_of(row: &<Db as sqlx::Database>::Row) -> Result<Kind<String>> {
    Ok(Kind {
        at_us: row.try_get("at_us")?,
        key_id: row.try_get("key_id")?,
        source_path: row.try_get("source_path")?,
        route_id: row.try_get("route_id")?,
        target_url: row.try_get("target_url")?,
        error: row.try_get("error")?,
        status_code: row.try_get("status_code")?,
    })
}

pub(super) fn sums_of(row: &<Db as sqlx::Database>::Row) -> Result<Sums> {
    let latency = Histogram::from_bytes(row.try_get("latency")?);
    Ok(Sums {
        requests: to_u64(row.try_get("requests")?),
        rate_limited: to_u64(row.try_get("rate_limited")?),
        request_bytes: to_u64(row.try_get("request_bytes")?),
        response_bytes: to_u64(row.try_get("response_bytes")?),
        last_us: row.try_get("last_us")?,
        latency: latency.ok_or_else(|| broken("a histogram of another form"))?,
    })
}
