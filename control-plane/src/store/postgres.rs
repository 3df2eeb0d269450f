//! The store on Postgres.

mod partitions;
mod primary;
mod rows;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{
    PgPool, Transaction,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    postgres::PgListener,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use self::primary::{NoPrimary, Servers};
use super::{
    News, Retention, StoreError,
    news::Unread,
    open::{OpenError, migrator},
};

#[path = "sql/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same statements, compiled once for each database")]
mod sql;

type Db = sqlx::Postgres;

/// The database's clock, in microseconds since 1970.
const NOW_US: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Whether transactions may write unless they say something else.
const TAKES_WRITES: &str = "SELECT current_setting('default_transaction_read_only') = 'off'";

/// Where a text stands in another, from 1; 0 where it does not.
const FIND: &str = "strpos";

/// The keys `k` that `wanted` names, between whose halves their environment goes. Each is looked up by
/// itself: left to the planner, forty keys are joined with all there are as long as nobody has counted
/// these, and more are at any time.
const WANTED_KEYS: (&str, &str) = (
    "wanted CROSS JOIN LATERAL (SELECT * FROM api_keys a WHERE a.key_id = wanted.key_id \
     AND a.environment = ",
    " LIMIT 1) k",
);

/// What a change announces itself on; the payload says nothing: who hears it looks.
const fn channel(news: News) -> &'static str {
    match news {
        News::Config => "fastgate_config",
        News::Nodes => "fastgate_nodes",
        News::Revocations => "fastgate_revocations",
    }
}

/// The advisory lock of the replica that sees to what is kept.
const KEEPER: i64 = 0x6661_7374_6761_7465;

/// Connections of one control plane: it has many nodes, but they do not query.
const CONNECTIONS: u32 = 16;

/// How long a call waits for a connection before it answers that the database is away.
const ACQUIRE: Duration = Duration::from_secs(1);

/// How long nothing is heard before it is asked whether the server is still there, and how long it may take
/// to say so.
const QUIET: Duration = Duration::from_secs(20);
const PROMPT: Duration = Duration::from_secs(5);

/// Connects and brings the schema up to date.
pub(super) async fn open(url: &str) -> Result<sql::SqlStore, OpenError> {
    let servers = Servers::parse(url)?;
    let place = servers.place();
    let pool = servers
        .connect(ACQUIRE * 5)
        .await
        .map_err(|NoPrimary { reason }| OpenError::Connect { place: place.clone(), reason })?;
    schema()
        .run(&pool)
        .await
        .map_err(|fault| OpenError::of_schema(place.clone(), &fault, refusal(&fault)))?;
    let store = sql::SqlStore::open(Backend::start(servers, pool)).await;
    store.map_err(|fault| OpenError::Connect { place, reason: fault.to_string() })
}

pub(super) fn schema() -> Migrator {
    migrator(Cow::Borrowed, include_str!("postgres/audit.sql"))
}

/// What the server said. The driver would add a line of the server's source to it.
fn reason(fault: &sqlx::Error) -> String {
    fault.as_database_error().map_or_else(|| fault.to_string(), |said| said.message().to_owned())
}

fn refusal(fault: &MigrateError) -> String {
    match fault {
        MigrateError::Execute(fault) | MigrateError::ExecuteMigration(fault, _) => reason(fault),
        other => other.to_string(),
    }
}

/// What differs from the other database.
pub(super) struct Backend {
    /// Connections to the primary, whichever server that is.
    pool: watch::Receiver<PgPool>,
    unread: Arc<Unread>,
    /// Aborted when the store is dropped.
    tasks: [JoinHandle<()>; 2],
}

impl Backend {
    fn start(servers: Servers, pool: PgPool) -> Self {
        let unread = Arc::<Unread>::default();
        let (sender, pool) = watch::channel(pool);
        let listener = tokio::spawn(listen(pool.clone(), unread.clone()));
        let tasks = [listener, tokio::spawn(servers.follow(sender))];
        Self { pool, unread, tasks }
    }

    fn pool(&self) -> PgPool {
        self.pool.borrow().clone()
    }

    async fn write(&self) -> sqlx::Result<Transaction<'static, Db>> {
        self.pool().begin().await
    }

    async fn look(&self) -> sqlx::Result<PoolConnection<Db>> {
        self.pool().acquire().await
    }

    /// Whether it answers within a second.
    async fn answers(&self) -> bool {
        let pool = self.pool();
        let asked = sqlx::query("SELECT 1").execute(&pool);
        matches!(timeout(ACQUIRE, asked).await, Ok(Ok(_)))
    }

    /// A transaction that sees one state throughout.
    async fn read(&self) -> sqlx::Result<Transaction<'static, Db>> {
        self.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// Announces the change with its commit.
    async fn announce(&self, tx: &mut Transaction<'static, Db>, news: News) -> sqlx::Result<()> {
        sqlx::query("SELECT pg_notify($1, '')").bind(channel(news)).execute(&mut **tx).await?;
        Ok(())
    }

    /// Nothing left to do: the announcement went with the commit.
    fn committed(&self, _news: News) {}

    async fn changed(&self, news: News) {
        self.unread.wait(news).await;
    }

    /// Whether it is this replica that sees to what is kept, until the transaction ends.
    async fn keeps(&self, tx: &mut Transaction<'static, Db>) -> sqlx::Result<bool> {
        let lock = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)");
        lock.bind(KEEPER).fetch_one(&mut **tx).await
    }

    async fn keep(&self, retention: &Retention, now: SystemTime) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if self.keeps(&mut tx).await? {
            partitions::keep(&self.pool(), retention, now).await?;
        }
        Ok(tx.commit().await?)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Wakes who waits at every announcement, and when announcements may have been missed.
async fn listen(mut pools: watch::Receiver<PgPool>, unread: Arc<Unread>) {
    loop {
        let pool = pools.borrow_and_update().clone();
        tokio::select! {
            heard = hear(&pool, &unread) => if let Err(fault) = heard {
                tracing::warn!("can't listen for changes, polling meanwhile: {fault}");
            },
            moved = pools.changed() => if moved.is_err() {
                return;
            },
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear(pool: &PgPool, unread: &Unread) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    soon(listener.listen_all(News::ALL.map(channel))).await?;
    News::ALL.into_iter().for_each(|news| unread.add(news));
    loop {
        let Ok(heard) = timeout(QUIET, listener.try_recv()).await else {
            // What is between here and there forgets connections on which nothing comes, and tells nobody.
            soon(sqlx::query("SELECT 1").execute(&mut listener)).await?;
            continue;
        };
        // `None`: the connection was lost and is back, and something may have been missed.
        let heard = heard?;
        let may_be = |news: &News| heard.as_ref().is_none_or(|h| h.channel() == channel(*news));
        News::ALL.into_iter().filter(may_be).for_each(|news| unread.add(news));
    }
}

async fn soon<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(PROMPT, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
