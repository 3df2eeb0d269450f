//! The server that takes writes: found at the start, and looked for again when it is no use any more.
//!
//! A URL may name several servers of one cluster. Which of them is the primary they say themselves; when
//! another one was promoted, it takes over within seconds, with connections of its own. A server that
//! restarts or is away for a while needs none of this: the pool connects anew by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{
    ConnectOptions as _, Connection as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{ACQUIRE, CONNECTIONS, OpenError, reason};

/// How often it is looked after.
const EVERY: Duration = Duration::from_secs(1);

/// How long a server may take to say whether it is the primary.
const PATIENCE: Duration = Duration::from_secs(2);

/// After that long connections are given up that lead to the primary and still are no use: one that is
/// waited for on a dead network may be missing for a quarter of an hour.
const STUCK: Duration = Duration::from_secs(30);

/// A connection used so lately is taken to work.
const LIKELY_WELL: Duration = Duration::from_secs(1);

/// The servers of a cluster, the preferred one first; mostly one.
pub(super) struct Servers(Vec<PgConnectOptions>);

/// Why none of them can be used.
pub(super) struct NoPrimary {
    pub(super) reason: String,
}

impl Servers {
    /// Reads a URL: `postgres://user:password@host1:5432,host2:5432/name`.
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        let urls = split(url).ok_or(OpenError::Url)?;
        urls.iter().map(|url| options(url)).collect::<Result<_, _>>().map(Self)
    }

    /// Where they are, for people.
    pub(super) fn place(&self) -> String {
        let Some(first) = self.0.first() else { return String::new() };
        let hosts = self.0.iter().map(|one| format!("{}:{}", one.get_host(), one.get_port()));
        let name = first.get_database().unwrap_or(first.get_username());
        format!("{}/{name}", hosts.collect::<Vec<_>>().join(","))
    }

    /// Connections to the primary.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self, patience: Duration) -> Result<PgPool, NoPrimary> {
        let options = self.primary(patience).await?;
        Ok(pool(options))
    }

    /// The first that says it takes writes.
    async fn primary(&self, patience: Duration) -> Result<&PgConnectOptions, NoPrimary> {
        let answers = join_all(self.0.iter().map(|options| takes_writes(options, patience))).await;
        let mut standing_by = true;
        let mut told = "it is a standby, which takes no writes".to_owned();
        for (options, answer) in self.0.iter().zip(answers) {
            match answer {
                Ok(true) => return Ok(options),
                Ok(false) => {}
                Err(fault) if std::mem::take(&mut standing_by) => told = reason(&fault),
                Err(_) => {}
            }
        }
        Err(NoPrimary { reason: told })
    }

    /// Sees to it that `pool` leads to the primary, for ever.
    pub(super) async fn follow(self, pool: watch::Sender<PgPool>) {
        let mut well_at = Instant::now();
        loop {
            sleep(EVERY).await;
            let current = pool.borrow().clone();
            if is_well(&current).await {
                well_at = Instant::now();
                continue;
            }
            let Ok(primary) = self.primary(PATIENCE).await else { continue };
            let is_same = place(primary) == place(&current.connect_options());
            if is_same && well_at.elapsed() < STUCK {
                continue;
            }
            let server = place(primary);
            tracing::warn!(server, "taking new connections to the primary database server");
            let old = pool.send_replace(self::pool(primary));
            well_at = Instant::now();
            // Whoever waits for one of them may never be answered.
            tokio::spawn(async move { drop(timeout(STUCK, old.close()).await) });
        }
    }
}

fn place(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        // One that was used just now is not asked whether it still works: that would be half of what a
        // look-up costs.
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > LIKELY_WELL {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.clone())
}

/// Whether the server in use answers and takes writes.
async fn is_well(pool: &PgPool) -> bool {
    let asked = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()").fetch_one(pool);
    matches!(timeout(PATIENCE, asked).await, Ok(Ok(true)))
}

/// The same of any, over a connection of its own: a pool would only say that it timed out.
async fn takes_writes(options: &PgConnectOptions, patience: Duration) -> sqlx::Result<bool> {
    let asked = async {
        let mut connection = options.connect().await?;
        let asked = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()");
        let answer = asked.fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    timeout(patience, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// One URL for each server.
fn split(url: &str) -> Option<Vec<String>> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let hosts: Vec<_> = hosts.split(',').collect();
    // Alone, it stands for this machine or a socket.
    if hosts.len() > 1 && hosts.contains(&"") {
        return None;
    }
    Some(hosts.into_iter().map(|host| format!("{scheme}://{user}{host}{behind}")).collect())
}

fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let options: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    // A password with a bare '@' or '/' in it makes the driver take part of it for the name.
    if options.get_database().is_some_and(|name| name.contains(['@', '/'])) {
        return Err(OpenError::Url);
    }
    if !matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer)
    {
        return Err(OpenError::Tls);
    }
    // A writer that waits for longer than this stands behind another that hangs. To compile a statement
    // takes longer than to run any of these, and the planner takes those over many partitions for dear.
    Ok(options
        .application_name("fastgate")
        .options([("lock_timeout", "5s"), ("statement_timeout", "30s"), ("jit", "off")])
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_name_several_servers() {
        for (url, place) in [
            ("postgres://u:p@a/db", Some("a:5432/db")),
            ("postgres://u:p@a:1,b:2,[::1]:3/db?application_name=x", Some("a:1,b:2,[::1]:3/db")),
            ("postgres://u:p%2C%40@a,b/db", Some("a:5432,b:5432/db")),
            ("postgres://a,b/db", Some("a:5432,b:5432/db")),
            ("postgres://u:p@a,/db", None),
            ("postgres://u:p@,a/db", None),
        ] {
            let read = Servers::parse(url).ok().map(|servers| servers.place());
            assert_eq!(read.as_deref(), place, "{url}");
        }
    }
}
