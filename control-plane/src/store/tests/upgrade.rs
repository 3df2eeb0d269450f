//! A database of an earlier version keeps what it holds.

use std::time::{Duration, SystemTime};

use fastgate::audit::EventMatch;
use sqlx::{AssertSqlSafe, Connection as _, raw_sql};

use super::{Postgres, events::is_new, open, samples::id, sqlite_url};
use crate::{
    domain::{EventBatch, EventFilter},
    store::{postgres, sqlite},
};

/// The last version before events were kept in partitions.
const BEFORE: i64 = 3;

/// What it held: two events of one batch, one of them of another day, and how often a key was used.
const HELD: &str = "
    INSERT INTO event_batches VALUES ('n1', 'b1', 0, 2, 5), ('n1', 'b1', 2, 1, 6);
    INSERT INTO events VALUES
        ('b1.0', 1000000, 'default', 'n1', 'r0', 'k1', 'app', 1, 'a', 'GET', '/a', 'http://t', 200, 1.5,
         1.25, 1.0, 7, 8, 'curl', '::1', 1, '', false),
        ('b1.1', 172800000000, 'default', 'n1', 'r1', '', '', 0, '', 'GET', '/b', '', 401, 0.5, 0, 0, 0,
         9, 'curl', '::1', 0, 'key_missing', false),
        ('b1.2', 1000000, 'default', 'n1', 'r2', 'k1', 'app', 1, 'a', 'GET', '/a', 'http://t', 200, 1.5,
         1.25, 1.0, 7, 8, 'curl', '::1', 1, '', false);
    INSERT INTO key_usage VALUES ('default', 'k1', 2, 1000000)";

async fn check(url: &str) {
    let store = open(url).await;
    let filter = EventFilter {
        environment: id("default"),
        from: SystemTime::UNIX_EPOCH,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        matching: EventMatch::default(),
    };
    let events = store.events(&filter, None, 10).await.expect("reads");
    let ids: Vec<_> = events.iter().map(|(_, event)| event.request_id.as_str()).collect();
    assert_eq!(ids, ["r1", "r2", "r0"]);
    let (_, first) = &events[2];
    assert_eq!((first.request_size, first.status_code, &*first.ip_address), (7, 200, "::1"));
    let batch = |first_seq| EventBatch {
        node_id: "n1".into(),
        boot_id: "b1".into(),
        environment: id("default"),
        first_seq,
        events: vec![first.clone()],
        counted: Vec::new(),
        gaps: Vec::new(),
    };
    assert!(!is_new(&store, &batch(2)).await, "it was stored before");
    assert!(is_new(&store, &batch(3)).await);
}

#[tokio::test]
async fn sqlite_keeps_what_it_holds() {
    let (url, _dir) = sqlite_url();
    let created = format!("{url}?mode=rwc");
    let mut connection = sqlx::SqliteConnection::connect(&created).await.expect("a database");
    sqlite::schema().run_to(BEFORE, &mut connection).await.expect("migrates");
    raw_sql(AssertSqlSafe(HELD)).execute(&mut connection).await.expect("writes");
    connection.close().await.expect("closes");
    check(&url).await;
}

#[tokio::test]
async fn postgres_keeps_what_it_holds() {
    let url = Postgres::shared().create_database("upgrade");
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("a database");
    postgres::schema().run_to(BEFORE, &mut connection).await.expect("migrates");
    raw_sql(AssertSqlSafe(HELD)).execute(&mut connection).await.expect("writes");
    connection.close().await.expect("closes");
    check(&url).await;
}
