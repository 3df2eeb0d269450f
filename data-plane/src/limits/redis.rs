//! Buckets in Redis, shared by all nodes: one script call a request, over one connection a worker.
//!
//! An error, or 50 ms in which Redis answers nobody who waits, open the breaker: the connection is
//! given up, requests do without it at once, and a task in the background makes a new one, trying
//! every second. Shorter stalls are a busy machine's, and no reason to count here what Redis will
//! count too; so is a queue of calls that are answered one after another.

use std::{
    cell::Cell,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{AsyncConnectionConfig, Client, RedisResult, Script, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::buckets::{Claim, Tally};

/// How long Redis may answer nobody who waits before it counts as away.
const SILENCE: Duration = Duration::from_millis(50);

/// How long a request waits for a Redis that answers others before it.
const QUEUE: Duration = Duration::from_millis(100);

/// How long a worker that was held up itself looks at what came meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// How long a new connection may take, its first answer included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the breaker stays open between two tries.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Calls of one worker under way; further ones wait for a place, within their time.
const CALLS: usize = 1024;

const SCRIPT: &str = include_str!("limit.lua");

/// One worker's connection to Redis. Its task ends with it.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
    script: Script,
    last_answer: Cell<Instant>,
}

struct Shared {
    /// `None`: the breaker is open.
    connection: ArcSwapOption<MultiplexedConnection>,
    tripped: Notify,
    /// How many workers have a connection, over the whole node.
    up: Arc<AtomicUsize>,
}

/// Redis is away, or too slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Away;

impl Link {
    /// Starts connecting. Call it inside the runtime the calls are made in.
    pub(super) fn start(client: Client, up: Arc<AtomicUsize>) -> Self {
        let shared =
            Arc::new(Shared { connection: ArcSwapOption::empty(), tripped: Notify::new(), up });
        let script = Script::new(SCRIPT);
        let keeper = tokio::spawn(keep_connected(client, shared.clone(), script.clone()));
        Self { shared, keeper, script, last_answer: Cell::new(Instant::now()) }
    }

    /// Takes a token from every bucket, or none.
    pub(super) async fn admit(&self, claims: &[Claim<'_>]) -> Result<Tally, Away> {
        let connection = self.shared.connection.load_full().ok_or(Away)?;
        let mut invocation = self.script.prepare_invoke();
        for claim in claims {
            invocation.key(claim.name).arg(claim.bucket.interval).arg(claim.bucket.capacity);
        }
        let mut own = MultiplexedConnection::clone(&connection);
        let answer: Result<RedisResult<Vec<u64>>, TooLong> =
            self.patiently(invocation.invoke_async(&mut own)).await;
        match answer {
            Ok(Ok(answer)) => {
                let (admitted, ahead) = answer.split_first().ok_or(Away)?;
                (ahead.len() == claims.len())
                    .then(|| Tally { admitted: *admitted == 1, ahead: ahead.into() })
                    .ok_or(Away)
            }
            Ok(Err(fault)) => {
                self.shared.trip(&connection, &fault.to_string());
                Err(Away)
            }
            Err(TooLong) => {
                self.shared.trip(&connection, "it takes too long to answer");
                Err(Away)
            }
        }
    }

    /// Waits for an answer as long as Redis gives any.
    async fn patiently<F: Future>(&self, call: F) -> Result<F::Output, TooLong> {
        let began = Instant::now();
        let mut call = pin!(call);
        loop {
            let last_answer = self.last_answer.get();
            let patience = (last_answer.max(began) + SILENCE).min(began + QUEUE);
            let mut answer = timeout_at(patience, &mut call).await;
            if answer.is_err() {
                // This very thread may have been held up: what waits in the socket counts.
                answer = timeout(LOOK, &mut call).await;
            }
            if let Ok(answer) = answer {
                self.last_answer.set(Instant::now());
                return Ok(answer);
            }
            if began.elapsed() >= QUEUE || self.last_answer.get() == last_answer {
                return Err(TooLong);
            }
        }
    }
}

/// A call took longer than a request waits.
struct TooLong;

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.shared.connection.swap(None).is_some() {
            self.shared.up.fetch_sub(1, Relaxed);
        }
    }
}

impl Shared {
    /// Opens the breaker, unless the connection in trouble was replaced already.
    fn trip(&self, failed: &Arc<MultiplexedConnection>, why: &str) {
        let before = self.connection.compare_and_swap(failed, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, failed)) {
            self.up.fetch_sub(1, Relaxed);
            self.tripped.notify_one();
            tracing::warn!("redis is away, limits do what their fallback says: {why}");
        }
    }
}

async fn keep_connected(client: Client, shared: Arc<Shared>, script: Script) {
    let mut told = false;
    loop {
        match timeout(CONNECT_TIMEOUT, connect(&client, &script)).await {
            Ok(Ok(connection)) => {
                shared.up.fetch_add(1, Relaxed);
                shared.connection.store(Some(Arc::new(connection)));
                tracing::info!("limits are counted in redis");
                shared.tripped.notified().await;
                told = false;
            }
            failed if !told => {
                let why = failed.map_or_else(
                    |_| "it does not answer".to_owned(),
                    |result| result.err().map(|fault| fault.to_string()).unwrap_or_default(),
                );
                tracing::warn!("redis can't be reached, limits do what their fallback says: {why}");
                told = true;
            }
            _ => {}
        }
        sleep(RETRY_EVERY).await;
    }
}

async fn connect(client: &Client, script: &Script) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(CALLS)
        .set_concurrency_limit(CALLS);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // Also the proof that it answers, and may run scripts.
    script.prepare_invoke().load_async(&mut connection).await?;
    Ok(connection)
}
