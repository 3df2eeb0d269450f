//! Partitions of what grows with traffic: made days ahead, dropped when they are too old.
//!
//! A partition holds a day (UTC), or an hour where days have become too large: dropping and vacuuming
//! are work by the partition, and the indexes of the running one are to stay in memory. Rows no
//! partition is there for wait in the default one: those of a node that was away for long, or whose
//! clock is off. A partition that is made later takes its rows out of there; what is too old by then is
//! deleted.

use std::time::{Duration, SystemTime};

use sqlx::{AssertSqlSafe, PgPool, Row as _, raw_sql};

use super::{
    super::{Retention, StoreError, unix_us},
    NOW_US,
    sql::Tx,
};
use crate::domain::Step;

/// What is in partitions. Each has a default one, `NAME_other`.
const PARENTS: [&str; 2] = ["events", "rollup_minutes"];
/// What is deleted row by row.
const SMALL: [&str; 5] =
    ["rollup_hours", "rollup_days", "rollup_keys", "event_gaps", "event_boots"];

/// Days before today and after it that have a partition whether there are rows or not. The clock of
/// a node may be off, and a control plane that is stopped makes none.
const BEHIND: i64 = 1;
const AHEAD: i64 = 3;

/// How long a change of partitions waits for statements under way, and everyone else behind it.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10min'";

/// A partition that is there: from one time to before another, in microseconds since 1970.
struct Partition {
    name: String,
    from_us: i64,
    until_us: i64,
    bytes: i64,
}

impl Partition {
    fn is_day(&self) -> bool {
        self.until_us - self.from_us > Step::Hour.end(0)
    }

    /// Whether days of which it is one, or an hour, are above so many bytes.
    fn is_large(&self, hourly_above: u64) -> bool {
        let most = if self.is_day() { hourly_above } else { hourly_above / 24 };
        u64::try_from(self.bytes).is_ok_and(|bytes| bytes > most)
    }
}

/// Makes what will be needed, moves what waits for it, and drops what is too old.
pub(super) async fn keep(
    pool: &PgPool,
    retention: &Retention,
    now: SystemTime,
) -> Result<(), StoreError> {
    // By the earlier of two clocks: one that is ahead would drop what is not old.
    let theirs = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {NOW_US}")));
    let theirs: i64 = theirs.fetch_one(pool).await?;
    let now = now.min(SystemTime::UNIX_EPOCH + Duration::from_micros(theirs.unsigned_abs()));
    let before = |kept: Duration| unix_us(now.checked_sub(kept).unwrap_or(SystemTime::UNIX_EPOCH));
    let oldest_us = before(retention.events);
    for parent in PARENTS {
        let there = partitions(pool, parent).await?;
        let is_large = there.iter().any(|known| known.is_large(retention.hourly_above));
        let step = if is_large { Step::Hour } else { Step::Day };
        for day_us in wanted_days(pool, parent, oldest_us, unix_us(now)).await? {
            let day_end_us = Step::Day.end(day_us);
            let mut known =
                there.iter().filter(|known| known.from_us < day_end_us && day_us < known.until_us);
            match known.next() {
                // It was made ahead, as a whole.
                Some(day) if is_large && day.is_day() && day_us > unix_us(now) => {
                    unmake(pool, parent, &day.name).await?;
                }
                Some(_) => continue,
                None => {}
            }
            let mut from_us = day_us;
            while from_us < day_end_us {
                make(pool, parent, from_us, step).await?;
                from_us = step.end(from_us);
            }
        }
        for old in there.iter().filter(|known| known.until_us <= oldest_us) {
            change(pool, format!("DROP TABLE {}", old.name)).await?;
            tracing::info!(partition = old.name, "dropped, as it was kept for long enough");
        }
        delete(pool, format!("{parent}_other"), oldest_us).await?;
    }
    for table in SMALL {
        delete(pool, table.into(), before(retention.rollups)).await?;
    }
    Ok(())
}

async fn partitions(pool: &PgPool, parent: &str) -> sqlx::Result<Vec<Partition>> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds, \
         pg_total_relation_size(c.oid) AS bytes FROM pg_inherits i \
         JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass",
    )
    .bind(parent)
    .fetch_all(pool)
    .await?;
    let mut found = Vec::new();
    for row in rows {
        let bounds: String = row.try_get("bounds")?;
        // FOR VALUES FROM ('1') TO ('2'); the default one has none.
        let mut numbers = bounds.split('\'').filter_map(|part| part.parse().ok());
        if let (Some(from_us), Some(until_us)) = (numbers.next(), numbers.next()) {
            let (name, bytes) = (row.try_get("name")?, row.try_get("bytes")?);
            found.push(Partition { name, from_us, until_us, bytes });
        }
    }
    Ok(found)
}

/// Where the days begin that are to have partitions: those around now, and those of rows that wait.
async fn wanted_days(
    pool: &PgPool,
    parent: &str,
    oldest_us: i64,
    now_us: i64,
) -> sqlx::Result<Vec<i64>> {
    let day_us = Step::Day.end(0);
    let today_us = Step::Day.floor(now_us);
    let mut days: Vec<_> = (-BEHIND..=AHEAD).map(|days| today_us + days * day_us).collect();
    let waiting = format!(
        "SELECT DISTINCT at_us / {day_us} * {day_us} FROM {parent}_other \
         WHERE at_us >= $1 AND at_us < $2"
    );
    let waiting = sqlx::query_scalar(AssertSqlSafe(waiting));
    days.extend::<Vec<i64>>(waiting.bind(oldest_us).bind(today_us).fetch_all(pool).await?);
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

/// Makes a partition and moves what waits for it.
async fn make(pool: &PgPool, parent: &str, from_us: i64, step: Step) -> sqlx::Result<()> {
    let until_us = step.end(from_us);
    let name = name(parent, from_us, step);
    // Nobody is to add to the default partition what belongs into the new one. The parent is locked
    // against other changes alone, so batches that hold it are not waited for twice.
    change(
        pool,
        format!(
            "LOCK TABLE {parent}_other IN ACCESS EXCLUSIVE MODE; \
             CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS); \
             WITH moved AS (DELETE FROM {parent}_other \
             WHERE at_us >= {from_us} AND at_us < {until_us} RETURNING *) \
             INSERT INTO {name} SELECT * FROM moved; \
             ALTER TABLE {parent} ATTACH PARTITION {name} \
             FOR VALUES FROM ({from_us}) TO ({until_us})"
        ),
    )
    .await
}

/// Takes a partition away, whose rows wait until others are there for them.
async fn unmake(pool: &PgPool, parent: &str, name: &str) -> sqlx::Result<()> {
    change(
        pool,
        format!(
            "LOCK TABLE {parent} IN ACCESS EXCLUSIVE MODE; \
             ALTER TABLE {parent} DETACH PARTITION {name}; \
             INSERT INTO {parent}_other SELECT * FROM {name}; \
             DROP TABLE {name}"
        ),
    )
    .await
}

/// `events_20261125`, `events_20261125_07`.
fn name(parent: &str, from_us: i64, step: Step) -> String {
    let day = jiff::Timestamp::from_microsecond(from_us).unwrap_or_default();
    let form = if step == Step::Hour { "%Y%m%d_%H" } else { "%Y%m%d" };
    format!("{parent}_{}", day.strftime(form))
}

/// Changes the schema, all or nothing.
async fn change(pool: &PgPool, statements: String) -> sqlx::Result<()> {
    let mut tx: Tx = pool.begin().await?;
    raw_sql(PATIENCE).execute(&mut *tx).await?;
    raw_sql(AssertSqlSafe(statements)).execute(&mut *tx).await?;
    tx.commit().await
}

async fn delete(pool: &PgPool, table: String, before_us: i64) -> sqlx::Result<()> {
    change(pool, format!("DELETE FROM {table} WHERE at_us < {before_us}")).await
}
