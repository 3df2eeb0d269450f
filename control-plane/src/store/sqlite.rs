//! The store on SQLite: what `fgctl dev` keeps its state in.

use std::{borrow::Cow, time::Duration};

use sqlx::{
    ConnectOptions as _, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    News,
    news::Unread,
    open::{OpenError, migrator},
};

#[path = "sql/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same statements, compiled once for each database")]
mod sql;

type Db = sqlx::Sqlite;

/// The database's clock, in microseconds since 1970.
const NOW_US: &str = "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";

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
    migrator(|sql| Cow::Owned(sql.replace("BYTEA", "BLOB")))
        .run(&writer)
        .await
        .map_err(|fault| OpenError::Migrate { place: path.into(), reason: fault.to_string() })?;
    let some = SqlitePoolOptions::new().max_connections(4);
    let readers = some.connect_with(options.read_only(true)).await.map_err(connect)?;
    let store = sql::SqlStore::open(Backend { writer, readers, unread: Unread::default() }).await;
    store.map_err(|fault| OpenError::Connect { place: path.into(), reason: fault.to_string() })
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
}
