//! The store on SQLite: what `fgctl dev` keeps its state in.

mod rows;

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use sqlx::{
    ConnectOptions as _, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    News, Retention, StoreError,
    news::Unread,
    open::{OpenError, migrator},
    unix_us,
};

#[path = "sql/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same statements, compiled once for each database")]
mod sql;

type Db = sqlx::Sqlite;

/// The database's clock, in microseconds since 1970.
const NOW_US: &str = "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";

/// A file that is there does.
const TAKES_WRITES: &str = "SELECT TRUE";

/// Where a text stands in another, from 1; 0 where it does not.
const FIND: &str = "instr";

/// The keys `k` that `wanted` names, between whose halves their environment goes.
const WANTED_KEYS: (&str, &str) =
    ("wanted JOIN api_keys k ON k.key_id = wanted.key_id AND k.environment = ", "");

/// Rows a statement deletes at most: nobody else can write meanwhile.
const AT_ONCE: i64 = 10_000;

/// Opens or creates a file and brings the schema up to date.
pub(super) async fn open(path: &str) -> Result<sql::SqlStore, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    let connect =
        |fault: sqlx::Error| OpenError::Connect { place: path.into(), reason: fault.to_string() };
    let one = SqlitePoolOptions::new().max_connections(1);
    let writer = one.connect_with(options.clone()).await.map_err(connect)?;
    schema()
        .run(&writer)
        .await
        .map_err(|fault| OpenError::of_schema(path.into(), &fault, fault.to_string()))?;
    let some = SqlitePoolOptions::new().max_connections(4);
    let readers = some.connect_with(options.read_only(true)).await.map_err(connect)?;
    let store = sql::SqlStore::open(Backend { writer, readers, unread: Unread::default() }).await;
    store.map_err(|fault| OpenError::Connect { place: path.into(), reason: fault.to_string() })
}

pub(super) fn schema() -> Migrator {
    migrator(|sql| Cow::Owned(words(sql)), include_str!("sqlite/audit.sql"))
}

/// SQLite compares texts byte by byte unless told otherwise.
fn words(sql: &str) -> String {
    sql.replace("BYTEA", "BLOB").replace(" COLLATE \"C\"", "")
}

/// What differs from the other database.
pub(super) struct Backend {
    /// One connection: SQLite lets one write at a time, and waiting here is fair.
    writer: SqlitePool,
    readers: SqlitePool,
    unread: Unread,
}

impl Backend {
    async fn write(&self) -> sqlx::Result<Transaction<'static, Db>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    async fn look(&self) -> sqlx::Result<PoolConnection<Db>> {
        self.readers.acquire().await
    }

    /// Whether it answers: it is in this process.
    #[allow(clippy::unused_async, reason = "the other database is asked")]
    async fn answers(&self) -> bool {
        true
    }

    /// A transaction that sees one state throughout.
    async fn read(&self) -> sqlx::Result<Transaction<'static, Db>> {
        self.readers.begin().await
    }

    /// Only this process writes to the file: [`Backend::committed`] is enough.
    #[allow(clippy::unused_async, reason = "the other database asks its server")]
    async fn announce(&self, _tx: &mut Transaction<'static, Db>, _news: News) -> sqlx::Result<()> {
        Ok(())
    }

    fn committed(&self, news: News) {
        self.unread.add(news);
    }

    async fn changed(&self, news: News) {
        self.unread.wait(news).await;
    }

    /// Whether it is this process that sees to what is kept: there is no other.
    #[allow(clippy::unused_async, reason = "the other database asks its server")]
    async fn keeps(&self, _tx: &mut Transaction<'static, Db>) -> sqlx::Result<bool> {
        Ok(true)
    }

    /// Deletes what is too old, some at a time.
    async fn keep(&self, retention: &Retention, now: SystemTime) -> Result<(), StoreError> {
        let before =
            |kept: Duration| unix_us(now.checked_sub(kept).unwrap_or(SystemTime::UNIX_EPOCH));
        for (table, kept) in [
            ("events", retention.events),
            ("rollup_minutes", retention.events),
            ("rollup_hours", retention.rollups),
            ("rollup_days", retention.rollups),
            ("rollup_keys", retention.rollups),
            ("event_gaps", retention.rollups),
            ("event_boots", retention.rollups),
        ] {
            loop {
                let mut delete = sqlx::QueryBuilder::<Db>::new("DELETE FROM ");
                delete.push(table).push(" WHERE rowid IN (SELECT rowid FROM ").push(table);
                delete.push(" WHERE at_us < ").push_bind(before(kept));
                delete.push(" LIMIT ").push_bind(AT_ONCE).push(")");
                if delete.build().execute(&self.writer).await?.rows_affected() == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}
