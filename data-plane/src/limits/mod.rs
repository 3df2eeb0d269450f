//! Limits: how many requests a key may make, and a key, an address or everybody on a route.
//!
//! A rate of n a minute is a bucket of n tokens, refilled at n/60 a second; a quota one that is full
//! again when its day or month is over. With Redis the buckets are shared by all nodes, and each
//! worker leases tokens from them in batches; without it they are in this process, by the same
//! algorithm. While Redis is away each limit does what its own fallback says.
//!
//! ```text
//! admit -> places (what the worker has at hand of a bucket)
//!            |-- with Redis:    leases -> lease (tokens held; pure)
//!            |                        `-> redis (calls of limit.lua), flight (one of them)
//!            `-- without, or while it is away: buckets (shared by the workers)
//! enter -> concurrency (requests under way) -> slots (of the worker; pure)
//! inspect (where limits stand, for people) -> redis, buckets
//! charge -> charges (what requests turn out to cost) -> lease, buckets
//! ```

mod ask;
mod batches;
mod buckets;
mod charges;
mod clock;
mod concurrency;
mod crowd;
mod debt;
mod flight;
mod forgotten;
mod gcra;
mod inspect;
mod label;
mod lease;
mod leases;
mod places;
mod policy;
mod redis;
mod shelf;
mod slots;
mod waiting;

use std::{
    rc::Rc,
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub(crate) use charges::Charges;
use fastgate::{
    model::{Fallback, Id},
    settings::Mistakes,
};
pub(crate) use forgotten::{Forgotten, Unit};
pub(crate) use inspect::Inspection;
pub(crate) use places::AtHand;
#[cfg(test)]
pub(crate) use policy::standing;
pub(crate) use policy::{Counted, Entered, Policies, Scope, Standing, Standings, Subject, Verdict};
use tokio::time::timeout;

pub use self::redis::{RedisAddress, RedisAddressError, RedisSettings};
use self::{
    buckets::{Buckets, Claim, Tally},
    clock::Clock,
    concurrency::{Concurrency, UnderWay},
    crowd::{Crowd, Nodes},
    forgotten::Lost,
    gcra::Bucket,
    label::{Labels, Ledger},
    leases::Leases,
    places::{Place, Places},
    policy::{Each, Policy},
    redis::{Away, Counts, Link, Server},
};

/// How long a worker that ends waits for Redis to hear what it gives back.
const LEAVING: Duration = Duration::from_secs(1);

/// The limits of a node, shared by its workers.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {
    environment: Id,
    redis: Option<Server>,
    clock: Clock,
    buckets: Buckets,
    nodes: Nodes,
    workers: AtomicUsize,
    counts: Arc<Counts>,
    ledger: Arc<Ledger>,
    under_way: UnderWay,
    lost: Lost,
}

impl Shared {
    fn crowd(&self) -> Crowd {
        Crowd { nodes: self.nodes.known(), workers: self.workers.load(Relaxed) as u64 }
    }
}

impl Limiter {
    /// Limits for one environment, counted in Redis, or in this process where there is none.
    ///
    /// # Errors
    /// What is wrong with the certificates Redis's own must be signed by.
    pub(crate) fn new(environment: &Id, redis: Option<&RedisSettings>) -> Result<Self, Mistakes> {
        let clock = Clock::start();
        Ok(Self(Arc::new(Shared {
            environment: environment.clone(),
            redis: redis.map(Server::new).transpose()?,
            clock,
            buckets: Buckets::new(clock),
            nodes: Nodes::default(),
            workers: AtomicUsize::new(0),
            counts: Arc::default(),
            ledger: Arc::default(),
            under_way: UnderWay::default(),
            lost: Lost::default(),
        })))
    }

    /// Says how many nodes share the limits of the environment. True: they are not as many as was known.
    pub(crate) fn set_node_count(&self, nodes: u32) -> bool {
        self.0.nodes.set(nodes)
    }

    /// Says how many nodes did when this one ran before: where each enforces its share, they count until
    /// it is known how many there are.
    pub(crate) fn set_node_count_before(&self, nodes: u32) {
        self.0.nodes.set_before(nodes);
    }

    /// Where limits are counted at the moment.
    pub(crate) fn state(&self) -> State {
        if self.0.redis.is_none() {
            State::Local
        } else if self.0.counts.up.load(Relaxed) < self.0.workers.load(Relaxed) {
            State::Fallback
        } else {
            State::Redis
        }
    }

    /// How often Redis was asked.
    pub(crate) fn redis_calls(&self) -> u64 {
        self.0.counts.calls.load(Relaxed)
    }

    /// The names of limits, each with how many requests it refused, and how many it would have, were
    /// it not in shadow mode.
    pub(crate) fn refusals(&self) -> Vec<(Box<str>, [u64; 2])> {
        self.0.ledger.read()
    }

    /// The limiter of one worker. Call it inside the worker's runtime: with Redis it keeps a
    /// connection of its own there.
    pub(crate) fn for_worker(&self) -> WorkerLimiter {
        self.0.workers.fetch_add(1, Relaxed);
        let shared = &self.0;
        let start = |server| Rc::new(Link::start(server, shared.clock, shared.counts.clone()));
        WorkerLimiter::new(shared.clone(), shared.redis.clone().map(start))
    }
}

/// Where limits are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// In Redis, shared by all nodes.
    Redis,
    /// In this process, as set.
    Local,
    /// Redis is set, and away or too slow: each limit does what its fallback says.
    Fallback,
}

impl State {
    /// As said to the control plane and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Local => "local",
            Self::Fallback => "fallback",
        }
    }
}

/// One worker's way to the limits.
pub(crate) struct WorkerLimiter {
    shared: Arc<Shared>,
    /// `None`: without Redis.
    leases: Option<Rc<Leases>>,
    places: Places,
    concurrency: Rc<Concurrency>,
}

impl WorkerLimiter {
    fn new(shared: Arc<Shared>, link: Option<Rc<Link>>) -> Self {
        let labels = Rc::new(Labels::new(shared.ledger.clone()));
        let leases = |link| Rc::new(Leases::new(shared.clone(), link));
        Self {
            leases: link.clone().map(leases),
            places: Places::new(shared.environment.clone(), labels.clone()),
            concurrency: Rc::new(Concurrency::new(shared.clone(), link, labels)),
            shared,
        }
    }

    /// Takes a slot of each limit of requests under way, or none at all. They are the request's for
    /// as long as it keeps them.
    ///
    /// # Errors
    /// What is to be said to the request instead.
    pub(crate) async fn enter(&self, policies: &Policies<'_>) -> Result<Entered, Verdict> {
        if policies.concurrent.is_empty() {
            return Ok(Entered::new());
        }
        // Boxed: every request's future would have to hold it, and few get here.
        Box::pin(self.concurrency.enter(policies)).await
    }

    /// Takes one token from the bucket of each policy, or none at all. Then those in shadow mode
    /// give one each, if they have any; what they say is counted and changes nothing.
    pub(crate) async fn admit(&self, policies: &Policies<'_>) -> Verdict {
        let verdict = self.enforce(&policies.enforced).await;
        match &verdict {
            Verdict::Admitted(_) if policies.shadow.is_empty() => {}
            // Boxed, like the one above.
            Verdict::Admitted(_) => Box::pin(self.observe(&policies.shadow)).await,
            Verdict::Refused { standings, .. } => {
                for standing in standings.iter().filter(|standing| standing.remaining == 0) {
                    standing.label.refusals().enforced.fetch_add(1, Relaxed);
                }
            }
            Verdict::Unavailable => {}
        }
        verdict
    }

    async fn enforce(&self, policies: &[Policy<'_>]) -> Verdict {
        let places: Each<_> = policies.iter().map(|policy| self.places.find(policy)).collect();
        let now = self.shared.clock.now();
        let outcome = match &self.leases {
            None => Ok(self.take_here(&places, now)),
            Some(leases) => match leases.at_once(&places, now) {
                Some(outcome) => outcome,
                // Boxed, like the one above.
                None => Box::pin(leases.admit(&places)).await,
            },
        };
        match outcome {
            Ok(tally) => judge(places.iter().map(|place| (&**place, place.bucket())), &tally),
            Err(Away) => self.fall_back(&places, policies),
        }
    }

    /// Counts against policies in shadow mode, each alone.
    async fn observe(&self, policies: &[Policy<'_>]) {
        for policy in policies {
            let verdict = self.enforce(slice::from_ref(policy)).await;
            if let Verdict::Refused { standings, .. } = &verdict {
                for standing in standings {
                    standing.label.refusals().shadow.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Gives back tokens that nobody spends and slots that nobody uses. Runs as long as the worker.
    pub(crate) fn give_back(&self) -> impl Future<Output = ()> + use<> {
        let (leases, concurrency) = (self.leases.clone(), self.concurrency.clone());
        async move {
            if let Some(leases) = leases {
                tokio::join!(leases.run(), concurrency.run());
            }
        }
    }

    /// Gives back what is held of quotas and slots, and tells what is owed, as far as Redis answers in
    /// time. For when no request comes any more.
    pub(crate) async fn leave(&self) {
        if let Some(leases) = &self.leases {
            let both = async { tokio::join!(leases.leave(), self.concurrency.leave()) };
            // Too late: it is lost, as with a worker that dies.
            drop(timeout(LEAVING, both).await);
        }
    }

    fn take_here(&self, places: &[Rc<Place>], now: u64) -> Tally {
        let claims = places.iter().map(|place| Claim { hold: &place.hold, bucket: place.bucket() });
        let claims: Each<_> = claims.collect();
        self.shared.buckets.admit(&claims, now)
    }

    /// What the policies say while Redis is away. A share goes on from where Redis was last heard to
    /// be.
    fn fall_back(&self, places: &[Rc<Place>], policies: &[Policy<'_>]) -> Verdict {
        if policies.iter().any(|policy| policy.fallback == Fallback::Closed) {
            return Verdict::Unavailable;
        }
        let Shared { buckets, clock, nodes, .. } = &*self.shared;
        let (now, nodes) = (clock.now(), nodes.sharing());
        let mut shared: Each<&Place> = Each::new();
        let mut claims: Each<Claim<'_>> = Each::new();
        for (policy, place) in policies.iter().zip(places) {
            if policy.fallback == Fallback::LocalShare {
                let whole = place.bucket();
                let taken = place.lease().taken_of(whole, now);
                let claim = Claim { hold: &place.hold, bucket: whole.share(nodes) };
                buckets.learn(claim, whole.share_taken(taken, nodes), now);
                shared.push(place);
                claims.push(claim);
            }
        }
        let tally = buckets.admit(&claims, now);
        if let (true, Some(leases)) = (tally.admitted, &self.leases) {
            for place in places.iter().filter(|place| !place.bucket().is_charged) {
                leases.spend_without_redis(place, now);
            }
        }
        judge(shared.into_iter().zip(claims.iter().map(|claim| claim.bucket)), &tally)
    }
}

impl Drop for WorkerLimiter {
    fn drop(&mut self) {
        self.shared.workers.fetch_sub(1, Relaxed);
    }
}

/// The verdict on buckets that stand as a tally says.
fn judge<'a>(buckets: impl Iterator<Item = (&'a Place, Bucket)>, tally: &Tally) -> Verdict {
    let mut standings = Standings::new();
    let mut wait = Duration::from_secs(1);
    for ((place, bucket), level) in buckets.zip(&tally.levels) {
        if !tally.admitted {
            wait = wait.max(bucket.wait(*level));
        }
        standings.push(Standing::new(place, bucket, *level));
    }
    if tally.admitted {
        return Verdict::Admitted(standings);
    }
    let retry_after = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    Verdict::Refused { standings, retry_after }
}

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
