//! A database of an earlier version keeps what it holds.

use std::time::{Duration, SystemTime};

use fastgate::audit::EventMatch;
use sqlx::{AssertSqlSafe, Connection as _, raw_sql};

use super::{
    Postgres,
    events::is_new,
    open,
    samples::{commit, id, key},
    sqlite_url,
};
use crate::{
    domain::{ApiKey, EventBatch, EventFilter, Expect, Op},
    store::{self, OpenError, StoreError, postgres, sqlite},
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
    let events = store.events(&filter, None, 10).await.expect("reads").events;
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

/// The last version before it was noted which key a secret opens.
const BEFORE_SECRETS: i64 = 11;

/// More keys than are noted at a time, the last two with one secret.
fn keys_of_before() -> Vec<ApiKey> {
    let mut keys: Vec<_> = (1000..2100).map(|n| key(&format!("k{n}"))).collect();
    let twin = ApiKey { secrets: keys[1099].secrets.clone(), ..key("twin") };
    keys.push(twin);
    keys
}

/// What puts keys into a database of before; `bytes` is how it writes them.
fn insert(keys: &[ApiKey], bytes: fn(String) -> String) -> String {
    let row = |key: &ApiKey| {
        let value = key.entity().value.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("('default', '{}', 'app', true, '', {}, '1', 0, 0)", key.key_id, bytes(value))
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    format!(
        "INSERT INTO api_keys (environment, key_id, source_path, is_active, description, entity, \
         etag, created_us, updated_us) VALUES {}",
        rows.join(", ")
    )
}

async fn secrets_are_known(url: &str, keys: &[ApiKey]) {
    for _ in 0..2 {
        let store = open(url).await;
        for (known, opens) in [(0, "k1000"), (999, "k1999"), (1099, "k2099"), (1100, "k2099")] {
            let again = ApiKey { secrets: keys[known].secrets.clone(), ..key("again") };
            let refused = commit(&store, vec![Op::PutKey(again, Expect::Absent)]).await;
            assert!(
                matches!(&refused, Err(StoreError::SecretTaken { other, .. }) if other == opens),
                "{opens}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn sqlite_knows_the_secrets_it_holds() {
    let (url, _dir) = sqlite_url();
    let created = format!("{url}?mode=rwc");
    let mut connection = sqlx::SqliteConnection::connect(&created).await.expect("a database");
    sqlite::schema().run_to(BEFORE_SECRETS, &mut connection).await.expect("migrates");
    let keys = keys_of_before();
    let held = insert(&keys, |hex| format!("X'{hex}'"));
    raw_sql(AssertSqlSafe(held)).execute(&mut connection).await.expect("writes");
    connection.close().await.expect("closes");
    secrets_are_known(&url, &keys).await;
}

#[tokio::test]
async fn postgres_knows_the_secrets_it_holds() {
    let url = Postgres::shared().create_database("upgrade_secrets");
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("a database");
    postgres::schema().run_to(BEFORE_SECRETS, &mut connection).await.expect("migrates");
    let keys = keys_of_before();
    let held = insert(&keys, |hex| format!("decode('{hex}', 'hex')"));
    raw_sql(AssertSqlSafe(held)).execute(&mut connection).await.expect("writes");
    connection.close().await.expect("closes");
    secrets_are_known(&url, &keys).await;
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

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_to_that_one() {
    let (url, _dir) = sqlite_url();
    drop(open(&url).await);
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("a database");
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (999999, 'of later', TRUE, X'00', 1)";
    raw_sql(newer).execute(&mut connection).await.expect("writes");
    connection.close().await.expect("closes");
    let refused = store::open(&url.into()).await.err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { .. }), "{refused}");
}
