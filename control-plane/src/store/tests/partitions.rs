//! Postgres keeps events by the day, and by the hour where days are large.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    admin::v1::{LogEvent, RecordedBody},
    audit::EventMatch,
};
use sqlx::PgPool;

use super::{
    Postgres,
    events::{batch, event, is_new},
    samples::{id, listed},
};
use crate::{
    domain::EventFilter,
    store::{Retention, Store},
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// The day that is today in the test: 2001-09-09.
const TODAY: u64 = 11_574 * DAY;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

/// With a body that does not compress.
fn large(second: u64) -> LogEvent {
    let text = (0..4000).map(|n| format!("{:x}", n * n * 7919 + second)).collect();
    let body = Some(RecordedBody { text, ..RecordedBody::default() });
    LogEvent { request_body: body, ..event(second) }
}

async fn keep(store: &Arc<dyn Store>, now: u64, hourly_above: u64) {
    let (events, rollups) = (Duration::from_secs(2 * DAY), Duration::from_secs(100 * DAY));
    let retention = Retention { events, rollups, hourly_above };
    store.keep(&retention, at(now)).await.expect("keeps");
}

/// The partitions of events, and how many each holds.
async fn partitions(pool: &PgPool) -> Vec<(String, i64)> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits \
         WHERE inhparent = 'events'::regclass ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .expect("listed");
    let mut found = Vec::new();
    for name in names {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {name}"));
        found.push((name, sqlx::query_scalar(count).fetch_one(pool).await.expect("counted")));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_that_are_large_become_hours() {
    let url = Postgres::shared().create_database("days_that_are_large_become_hours");
    let store = super::open(&url).await;
    let pool = PgPool::connect(&url).await.expect("a connection");
    // What comes to make it large is above this, what a partition is without a row below.
    let hourly_above = 1 << 20;
    keep(&store, TODAY + HOUR, hourly_above).await;
    let days = async || -> Vec<String> {
        let all = partitions(&pool).await.into_iter().map(|(name, _)| name);
        all.filter(|name| name.starts_with("events_2001")).collect()
    };
    let first = ["events_20010908", "events_20010909", "events_20010910"];
    assert_eq!(days().await[..3], first, "a day each");
    assert_eq!(days().await.len(), 5, "yesterday to three days ahead");

    // A node's clock is half a day ahead: its event is there before tomorrow is made of hours.
    let ahead = event(TODAY + DAY + 7 * HOUR + 60);
    let events: Vec<_> = (0..80).map(|n| large(TODAY + n)).chain([ahead.clone()]).collect();
    assert!(is_new(&store, &batch(0, events.clone())).await);
    keep(&store, TODAY + 2 * HOUR, hourly_above).await;
    let found = partitions(&pool).await;
    let holds = |name: &str| found.iter().find(|(known, _)| known == name).map(|(_, rows)| *rows);
    assert_eq!(holds("events_20010909"), Some(80), "today is as it was");
    assert_eq!((holds("events_20010910"), holds("events_20010910_07")), (None, Some(1)));
    assert_eq!(found.len(), 2 + 3 * 24 + 1, "{found:?}");
    assert_eq!(holds("events_other"), Some(0));

    // It stays that way, found as before, and goes by the hour.
    keep(&store, TODAY + 3 * HOUR, hourly_above).await;
    assert_eq!(partitions(&pool).await, found);
    let filter = EventFilter {
        environment: id("default"),
        from: at(TODAY),
        until: at(TODAY + 2 * DAY),
        matching: EventMatch::default(),
    };
    let stored: Vec<_> = listed(&store, &filter).await.into_iter().map(|(_, it)| it).collect();
    assert!(stored.into_iter().rev().eq(events));
    keep(&store, TODAY + 3 * DAY + 7 * HOUR, 32 << 30).await;
    assert_eq!(days().await[0], "events_20010910_07", "what is older than two days is gone");
    assert!(days().await.contains(&"events_20010914".into()), "small days are days again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_drops_nothing() {
    let url = Postgres::shared().create_database("a_clock_that_is_ahead_drops_nothing");
    let store = super::open(&url).await;
    let pool = PgPool::connect(&url).await.expect("a connection");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    keep(&store, now, 32 << 30).await;
    assert!(is_new(&store, &batch(0, vec![event(now)])).await);
    let before = partitions(&pool).await;
    keep(&store, now + 80 * DAY, 32 << 30).await;
    assert_eq!(partitions(&pool).await, before);
}
