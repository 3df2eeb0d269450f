//! Requests added up: batches leave what they add to a sum beside what others left
//! ([`super::parts`]), and once a minute is over one transaction takes that out and adds it to the
//! sums of minutes, hours and days and to the use of keys.
//!
//! So batches never wait for each other's rows, and whoever reads sums of a table and the parts in
//! one snapshot misses nothing and counts nothing twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::Row as _;

use super::{
    Db, ROWS, Result, Rows, Tx, parts,
    value::{broken, to_i64, to_u64},
};
use crate::domain::{Histogram, Kind, Rollup, Step, Sums};

/// Parts that are read at once.
const AT_ONCE: i64 = if cfg!(test) { 20 } else { 100 };

/// Sums that are enough for one transaction, which reads and writes anew those of the hours and days they
/// are of: the fewer transactions, the less often.
const ENOUGH: usize = if cfg!(test) { 100 } else { 100_000 };

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

/// What a step is called in the table of keys.
pub(super) fn name(step: Step) -> &'static str {
    match step {
        Step::Minute => "minute",
        Step::Hour => "hour",
        Step::Day => "day",
    }
}

/// Adds up the oldest parts, none behind `last`, as far as their minutes are over; the rest of them
/// are parts again, one of each environment, behind all there are. Whether there may be more to add up.
pub(super) async fn settle(tx: &mut Tx, last: i64, running_us: i64) -> Result<bool> {
    let mut taken = Taken::new();
    let may_be_more = loop {
        let parts = parts::take_oldest(tx, last, AT_ONCE).await?;
        take(&parts, running_us, &mut taken)?;
        if (parts.len() as i64) < AT_ONCE {
            break false;
        }
        if taken.values().flatten().map(Rollup::len).sum::<usize>() >= ENOUGH {
            break true;
        }
    };
    for (environment, [over, running]) in taken {
        parts::add(tx, &environment, &running).await?;
        if !over.is_empty() {
            settle_over(tx, &environment, over).await?;
        }
    }
    Ok(may_be_more)
}

/// What parts come to, by environment: minutes that are over, and those that run.
type Taken = BTreeMap<String, [Rollup<String>; 2]>;

fn take(parts: &[(String, Vec<u8>)], running_us: i64, taken: &mut Taken) -> Result<()> {
    // Most lines are alike in all but their numbers: what they have in common is copied once.
    let mut of: BTreeMap<&str, [Rollup<&str>; 2]> = BTreeMap::new();
    for (environment, part) in parts {
        let [over, running] = of.entry(environment).or_default();
        parts::each(part, |line| {
            let sums = line.sums()?;
            let rollup = if line.kind.at_us < running_us { &mut *over } else { &mut *running };
            rollup.entry(line.kind).or_default().add(&sums);
            Ok(())
        })?;
    }
    for (environment, rollups) in of {
        let all = taken.entry(environment.to_owned()).or_default();
        for (all, rollup) in all.iter_mut().zip(rollups) {
            for (kind, sums) in rollup {
                all.entry(kind.to_owned()).or_default().add(&sums);
            }
        }
    }
    Ok(())
}

async fn settle_over(tx: &mut Tx, environment: &str, over: Rollup<String>) -> Result<()> {
    count_usage(tx, environment, &over).await?;
    let over = with_all_keys(over);
    add(tx, table(Step::Minute), environment, &over).await?;
    for step in [Step::Hour, Step::Day] {
        let mut sums = coarser(&over, step);
        let begins: BTreeSet<i64> = sums.keys().map(|kind| kind.at_us).collect();
        for at_us in begins {
            take_sums(tx, environment, step, at_us, &mut sums).await?;
            replace_keys(tx, environment, step, at_us, &sums).await?;
        }
        add(tx, table(step), environment, &sums).await?;
    }
    Ok(())
}

/// Adds rows to a table.
async fn add<S: AsRef<str>>(
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

/// Takes the rows of a step out of its table and adds them to others.
async fn take_sums(
    tx: &mut Tx,
    environment: &str,
    step: Step,
    at_us: i64,
    sums: &mut Rollup<String>,
) -> Result<()> {
    let mut query = sqlx::QueryBuilder::<Db>::new("DELETE FROM ");
    query.push(table(step)).push(" WHERE environment = ").push_bind(environment);
    query.push(" AND at_us = ").push_bind(at_us);
    query.push(" RETURNING ").push(COLUMNS.join(", "));
    for row in query.build().fetch_all(&mut **tx).await? {
        sums.entry(kind_of(&row)?).or_default().add(&sums_of(&row)?);
    }
    Ok(())
}

/// Says anew what keys come to over a step all of whose sums are given.
async fn replace_keys(
    tx: &mut Tx,
    environment: &str,
    step: Step,
    at_us: i64,
    sums: &Rollup<String>,
) -> Result<()> {
    let mut delete = sqlx::QueryBuilder::<Db>::new("DELETE FROM rollup_keys WHERE environment = ");
    delete.push_bind(environment).push(" AND step = ").push_bind(name(step));
    delete.push(" AND at_us = ").push_bind(at_us);
    delete.build().execute(&mut **tx).await?;
    let mut used: HashMap<&str, u64> = HashMap::new();
    for (kind, sums) in sums.iter().filter(|(kind, _)| kind.at_us == at_us) {
        if let Some(key_id) = kind.key_id.as_deref().filter(|key_id| !key_id.is_empty()) {
            let count = used.entry(key_id).or_default();
            *count = count.saturating_add(sums.requests);
        }
    }
    let columns = &["at_us", "requests", "step", "environment", "key_id"];
    let mut rows = Rows::new("rollup_keys", columns);
    for (key_id, requests) in used {
        rows.begin();
        rows.bigint(at_us);
        rows.bigint(to_i64(requests));
        rows.text(name(step));
        rows.text(environment);
        rows.text(key_id);
    }
    Ok(rows.store(tx).await?)
}

/// What is there, and the sums of all keys.
fn with_all_keys(rollup: Rollup<String>) -> Rollup<String> {
    let mut all = Rollup::new();
    for (kind, sums) in rollup {
        let of_all = Kind { key_id: None, ..kind.clone() };
        all.entry(of_all).or_insert_with(Sums::default).add(&sums);
        all.insert(kind, sums);
    }
    all
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

/// The use of some keys that was not added up yet: how often, and when last.
pub(super) async fn unsettled_use(
    tx: &mut Tx,
    environment: &str,
    key_ids: impl Iterator<Item = &str> + Send,
) -> Result<HashMap<String, (u64, i64)>> {
    let mut used: HashMap<String, (u64, i64)> =
        key_ids.map(|key_id| (key_id.to_owned(), (0, i64::MIN))).collect();
    for part in parts::all(tx, environment).await? {
        parts::each(&part, |line| {
            if let Some((count, last_us)) = line.kind.key_id.and_then(|key_id| used.get_mut(key_id))
            {
                *count = count.saturating_add(line.requests);
                *last_us = line.last_us.max(*last_us);
            }
            Ok(())
        })?;
    }
    Ok(used)
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
