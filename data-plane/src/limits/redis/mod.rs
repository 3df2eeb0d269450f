//! The way to Redis: one connection a worker, over which the calls of its leases go.
//!
//! ```text
//! address (what --redis-url says) -> server (one, watched by sentinels, a cluster) -> connection
//! Link (here: the connection and its breaker) -> script (how limit.lua is called) -> connection
//!                                             -> pace (how fast it answers)
//! ```
//!
//! An error, 50 ms in which Redis answers nobody who waits, or answers that are late again and again
//! (over 10 ms, six times one after the other: see `pace.rs`) open the breaker: the connection is
//! given up, requests do without it at once, and a task in the background makes a new one, trying
//! twice a second. It is used once it answered as often in time. Single stalls are a busy machine's,
//! and no reason to count here what Redis will count too; so is a queue of calls that are answered
//! one after another. For the same reason time is counted in steps as this thread lives through them:
//! one in which it was held up is one step. As leases may need no call for a while, the background
//! asks now and then whether Redis is there, and how fast.
//!
//! A cluster is there or away as a whole: it serves no key itself, unless told otherwise, while one
//! of its masters is missing. Who is a master is found out anew with each connection.

mod address;
mod look;
mod pace;
mod script;
mod server;
mod told;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{ErrorKind, RedisResult, ServerErrorKind, cmd};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub use self::address::{RedisAddress, RedisAddressError, RedisSettings};
pub(super) use self::{look::Looker, server::Server};
use self::{
    pace::{IN_A_ROW, Pace},
    script::{Script, try_out},
    server::Connection,
    told::{Told, why},
};
use super::{
    ask::{Ask, Grant},
    clock::Clock,
    flight::{Flight, Landing},
    policy::Each,
};

/// How long Redis may answer nobody who waits before it counts as away: 50 ms.
const SILENT_STEPS: u32 = 10;

/// How long a call waits for a Redis that answers others before it: 75 ms. What it brings can be
/// spent for 80.
const QUEUE_STEPS: u32 = 15;

/// Why the breaker is open, where all that is wrong is the pace.
const TOO_SLOW: &str = "it answers, but too slowly";

/// How long a new connection may take: finding the masters, and their first answers included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the breaker stays open between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How often Redis is asked whether it is there.
const PING_EVERY: Duration = Duration::from_millis(500);

/// A call for slots: how many the holder has then.
pub(super) type Call = Flight<Reservation, u64>;

/// What is asked of a bucket of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    /// Who asks.
    pub(super) holder: u64,
    /// How many there are, over all.
    pub(super) limit: u64,
    /// How many the holder wants to have, in all.
    pub(super) want: u64,
    /// For how many milliseconds.
    pub(super) life: u64,
}

/// One worker's connection to Redis. Its task ends with it.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    /// `None`: the breaker is open.
    connection: ArcSwapOption<Connection>,
    /// The number of the connection; 0: the breaker is open.
    epoch: AtomicU32,
    tripped: Notify,
    /// Calls that were answered.
    answers: AtomicU64,
    pace: Pace,
    script: Script,
    slots: Script,
    clock: Clock,
    counts: Arc<Counts>,
}

/// What the links of a node count together.
#[derive(Default, Debug)]
pub(super) struct Counts {
    /// Workers that have a connection.
    pub(super) up: AtomicUsize,
    /// Calls of scripts.
    pub(super) calls: AtomicU64,
    told: Told,
}

/// Redis is away, or too slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Away;

impl Link {
    /// Starts connecting. Call it inside the runtime the calls are made in.
    pub(super) fn start(server: Server, clock: Clock, counts: Arc<Counts>) -> Self {
        let shared = Arc::new(Shared {
            connection: ArcSwapOption::empty(),
            epoch: AtomicU32::new(0),
            tripped: Notify::new(),
            answers: AtomicU64::new(0),
            pace: Pace::default(),
            script: Script::limit(),
            slots: Script::slots(),
            clock,
            counts,
        });
        let keeper = tokio::spawn(keep_connected(server, shared.clone()));
        Self { shared, keeper }
    }

    /// One that passes for connected, and over which nothing goes.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn idle(clock: Clock) -> Self {
        let shared = Shared {
            connection: ArcSwapOption::empty(),
            epoch: AtomicU32::new(1),
            tripped: Notify::new(),
            answers: AtomicU64::new(0),
            pace: Pace::default(),
            script: Script::limit(),
            slots: Script::slots(),
            clock,
            counts: Arc::default(),
        };
        Self { shared: Arc::new(shared), keeper: tokio::spawn(async {}) }
    }

    /// The number of the connection there is.
    pub(super) fn epoch(&self) -> Option<u32> {
        Some(self.shared.epoch.load(Acquire)).filter(|epoch| *epoch > 0)
    }

    /// How long an answer takes of late, in nanoseconds.
    pub(super) fn answer_time(&self) -> u64 {
        self.shared.pace.answer_time()
    }

    /// Asks the buckets of these names; `None`: the breaker is open.
    pub(super) fn send(
        &self,
        names: Each<Arc<str>>,
        asks: Each<Ask>,
        now: u64,
    ) -> Option<Arc<Flight>> {
        let epoch = self.epoch()?;
        let connection = self.shared.connection.load_full()?;
        self.shared.counts.calls.fetch_add(1, Relaxed);
        let flight = Arc::new(Flight::new(asks, epoch, now));
        tokio::spawn(self.shared.clone().fly(connection, names, flight.clone()));
        Some(flight)
    }

    /// Asks for slots of the bucket of this name; `None`: the breaker is open.
    pub(super) fn reserve(&self, name: Arc<str>, asks: Reservation, now: u64) -> Option<Arc<Call>> {
        let epoch = self.epoch()?;
        let connection = self.shared.connection.load_full()?;
        self.shared.counts.calls.fetch_add(1, Relaxed);
        let call = Arc::new(Call::new(asks, epoch, now));
        tokio::spawn(self.shared.clone().fly_for_slots(connection, name, call.clone()));
        Some(call)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.shared.connection.swap(None).is_some() {
            self.shared.counts.up.fetch_sub(1, Relaxed);
        }
    }
}

impl Shared {
    async fn fly(
        self: Arc<Self>,
        connection: Arc<Connection>,
        names: Each<Arc<str>>,
        flight: Arc<Flight>,
    ) {
        let arguments = flight.asks.iter().flat_map(Ask::arguments);
        let mut own = Connection::clone(&connection);
        let call = self.script.call::<Vec<u64>>(&mut own, &names, arguments);
        let answer = self.patiently(&connection, call).await;
        flight.land(answer.and_then(|numbers| {
            let at = self.clock.now();
            let grants: Option<Each<_>> = numbers.chunks(Grant::NUMBERS).map(Grant::read).collect();
            grants.map(|grants| Landing { at, grants })
        }));
    }

    async fn fly_for_slots(
        self: Arc<Self>,
        connection: Arc<Connection>,
        name: Arc<str>,
        flight: Arc<Call>,
    ) {
        let Reservation { holder, limit, want, life } = flight.asks;
        let arguments = [holder, limit, want, life].into_iter();
        let mut own = Connection::clone(&connection);
        let names = [name];
        let call = self.slots.call::<u64>(&mut own, &names, arguments);
        let answer = self.patiently(&connection, call).await;
        flight.land(answer.map(|grants| Landing { at: self.clock.now(), grants }));
    }

    /// Waits for an answer as long as Redis gives any. Without one, the breaker is open; it is also
    /// behind one that was the last too late, for Redis counted that.
    async fn patiently<T>(
        &self,
        connection: &Arc<Connection>,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Option<T> {
        let mut call = pin!(call);
        let (mut silent_steps, mut answers) = (0, self.answers.load(Relaxed));
        let (sent, mut wait) = (self.clock.now(), self.pace.wait());
        for _ in 0..QUEUE_STEPS {
            match wait.step(call.as_mut()).await {
                Some(Ok(answer)) => {
                    self.answers.fetch_add(1, Relaxed);
                    if wait.is_too_slow(sent, self.clock.now()) {
                        self.trip(connection, TOO_SLOW);
                    }
                    return Some(answer);
                }
                // Keys on their way from one server of a cluster to another: others are not.
                Some(Err(fault))
                    if fault.kind() == ErrorKind::Server(ServerErrorKind::TryAgain) =>
                {
                    return None;
                }
                Some(Err(fault)) => {
                    self.trip(connection, &why(&fault));
                    return None;
                }
                None => {}
            }
            let before = std::mem::replace(&mut answers, self.answers.load(Relaxed));
            silent_steps = if answers == before { silent_steps + 1 } else { 0 };
            if silent_steps >= SILENT_STEPS {
                break;
            }
        }
        self.trip(connection, "it takes too long to answer");
        None
    }

    /// Opens the breaker, unless the connection in trouble was replaced already.
    fn trip(&self, failed: &Arc<Connection>, why: &str) {
        let before = self.connection.compare_and_swap(failed, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, failed)) {
            self.epoch.store(0, Release);
            self.counts.up.fetch_sub(1, Relaxed);
            self.tripped.notify_one();
            self.counts.told.away(why);
        }
    }

    /// Returns when the breaker is open.
    async fn look_after(&self, connection: &Arc<Connection>) {
        let mut own = Connection::clone(connection);
        loop {
            tokio::select! {
                () = self.tripped.notified() => return,
                () = sleep(PING_EVERY) => {}
            }
            let ping = cmd("PING");
            // Where it fails, the next round ends. What holds no longer than to here is not told
            // as good news.
            let answer = self.patiently::<String>(connection, ping.query_async(&mut own)).await;
            if answer.is_some() && self.epoch.load(Acquire) > 0 {
                self.counts.told.counted();
            }
        }
    }
}

async fn keep_connected(server: Server, shared: Arc<Shared>) {
    let (mut told, mut epoch) = (false, 0);
    loop {
        match timeout(CONNECT_TIMEOUT, connect(&server)).await {
            Ok(Ok(connection)) if is_prompt(&connection).await => {
                let connection = Arc::new(connection);
                epoch += 1;
                shared.pace.begin();
                shared.connection.store(Some(connection.clone()));
                shared.epoch.store(epoch, Release);
                shared.counts.up.fetch_add(1, Relaxed);
                shared.look_after(&connection).await;
                told = false;
            }
            failed if !told => {
                let why = match failed {
                    Ok(Err(fault)) => why(&fault),
                    Ok(Ok(_)) => TOO_SLOW.to_owned(),
                    Err(_) => "it does not answer".to_owned(),
                };
                shared.counts.told.away(&why);
                told = true;
            }
            _ => {}
        }
        sleep(RETRY_EVERY).await;
    }
}

async fn connect(server: &Server) -> RedisResult<Connection> {
    let connection = server.connect().await?;
    try_out(&connection).await?;
    Ok(connection)
}

/// Whether a server is so fast that calls would not open the breaker again at once. Answers that may
/// have been there before this thread could look don't count.
async fn is_prompt(connection: &Connection) -> bool {
    let (pace, mut own, mut in_time) = (Pace::default(), connection.clone(), 0);
    for _ in 0..4 * IN_A_ROW {
        let ping = cmd("PING");
        let (mut call, mut wait) = (pin!(ping.query_async::<()>(&mut own)), pace.wait());
        let mut answer = None;
        for _ in 0..SILENT_STEPS {
            answer = wait.step(call.as_mut()).await;
            if answer.is_some() || wait.is_late() {
                break;
            }
        }
        if !matches!(answer, Some(Ok(()))) {
            return false;
        }
        in_time += u32::from(wait.is_in_time());
        if in_time == IN_A_ROW {
            return true;
        }
    }
    false
}
