//! Rate limits: how many requests a key may make, and a key (or an address) on a route.
//!
//! A limit of n a minute is a bucket of n tokens, refilled at n/60 a second. With Redis the buckets
//! are shared by all nodes, and each worker leases tokens from them in batches; without it they are
//! in this process, by the same algorithm. While Redis is away each limit does what its own fallback
//! says.
//!
//! ```text
//! admit -> places (what the worker has at hand of a bucket)
//!            |-- with Redis:    leases -> lease (tokens held; pure)
//!            |                        `-> redis (calls of limit.lua), flight (one of them)
//!            `-- without, or while it is away: buckets (shared by the workers)
//! ```

mod ask;
mod buckets;
mod clock;
mod flight;
mod gcra;
mod lease;
mod leases;
mod places;
mod policy;
mod redis;

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use fastgate::{
    model::{Fallback, Id},
    settings::Mistakes,
};
pub(crate) use policy::{Policy, Scope, Standing, Standings, Subject, Verdict};

pub use self::redis::{RedisAddress, RedisAddressError, RedisSettings};
use self::{
    buckets::{Buckets, Claim, Tally},
    clock::Clock,
    gcra::Bucket,
    lease::Crowd,
    leases::Leases,
    places::{Place, Places},
    policy::{Each, verdict},
    redis::{Away, Counts, Link, Server},
};

/// The limits of a node, shared by its workers.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {
    environment: Id,
    redis: Option<Server>,
    clock: Clock,
    buckets: Buckets,
    /// 0: not known yet.
    nodes: AtomicU32,
    workers: AtomicUsize,
    counts: Arc<Counts>,
}

impl Shared {
    fn crowd(&self) -> Crowd {
        Crowd { nodes: self.nodes.load(Relaxed).into(), workers: self.workers.load(Relaxed) as u64 }
    }
}

impl Limiter {
    /// Limits for one environment, counted in Redis, or in this process where there is none.
    ///
    /// # Errors
    /// What is wrong with the certificates Redis's own must be signed by.
    pub(crate) fn new(environment: &Id, redis: Option<&RedisSettings>) -> Result<Self, Mistakes> {
        Ok(Self(Arc::new(Shared {
            environment: environment.clone(),
            redis: redis.map(Server::new).transpose()?,
            clock: Clock::start(),
            buckets: Buckets::new(),
            nodes: AtomicU32::new(0),
            workers: AtomicUsize::new(0),
            counts: Arc::default(),
        })))
    }

    /// Says how many nodes share the limits of the environment.
    pub(crate) fn set_node_count(&self, nodes: u32) {
        self.0.nodes.store(nodes.max(1), Relaxed);
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

    /// The limiter of one worker. Call it inside the worker's runtime: with Redis it keeps a
    /// connection of its own there.
    pub(crate) fn for_worker(&self) -> WorkerLimiter {
        self.0.workers.fetch_add(1, Relaxed);
        let shared = &self.0;
        let link = |server| Link::start(server, shared.clock, shared.counts.clone());
        let link = shared.redis.clone().map(link);
        WorkerLimiter {
            shared: shared.clone(),
            leases: link.map(|link| Rc::new(Leases::new(shared.clone(), link))),
            places: Places::new(shared.environment.clone()),
        }
    }
}

/// Where limits are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// In Redis, shared by all nodes.
    Redis,
    /// In this process, as set.
    Local,
    /// Redis is set and away: each limit does what its fallback says.
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
}

impl WorkerLimiter {
    /// Takes one token from the bucket of each policy, or none at all. At most
    /// [`Standings::MAX`] policies.
    pub(crate) async fn admit(&self, subject: Subject<'_>, policies: &[Policy<'_>]) -> Verdict {
        let places = self.places(subject, policies);
        let now = self.shared.clock.now();
        let Some(leases) = &self.leases else { return self.admit_here(&places, policies, now) };
        let outcome = match leases.at_once(&places, now) {
            Some(outcome) => outcome,
            // Boxed: every request's future would have to hold it, and few get here.
            None => Box::pin(leases.admit(&places)).await,
        };
        match outcome {
            Ok(tally) => judge(policies.iter().zip(places.iter().map(|p| p.bucket())), &tally),
            Err(Away) => self.fall_back(&places, policies),
        }
    }

    /// Gives leased tokens back that nobody spends. Runs as long as the worker.
    pub(crate) fn give_back(&self) -> impl Future<Output = ()> + use<> {
        let leases = self.leases.clone();
        async move {
            if let Some(leases) = leases {
                leases.run().await;
            }
        }
    }

    fn places(&self, subject: Subject<'_>, policies: &[Policy<'_>]) -> Each<Rc<Place>> {
        let place = |policy| {
            let place = self.places.find(subject, policy);
            place.follow(policy.limit.rate);
            place
        };
        policies.iter().map(place).collect()
    }

    fn admit_here(&self, places: &[Rc<Place>], policies: &[Policy<'_>], now: u64) -> Verdict {
        let claims: Each<_> = places
            .iter()
            .map(|place| Claim { hold: &place.hold, bucket: place.bucket() })
            .collect();
        let tally = self.shared.buckets.admit(&claims, now);
        judge(policies.iter().zip(claims.iter().map(|claim| claim.bucket)), &tally)
    }

    /// What the policies say while Redis is away. A share is a bucket that takes as long to fill as
    /// the whole one, so it goes on from where Redis was last heard to be.
    fn fall_back(&self, places: &[Rc<Place>], policies: &[Policy<'_>]) -> Verdict {
        if policies.iter().any(|policy| policy.limit.fallback == Fallback::Closed) {
            return Verdict::Unavailable;
        }
        let Shared { buckets, clock, nodes, .. } = &*self.shared;
        let (now, nodes) = (clock.now(), nodes.load(Relaxed));
        let shared = policies.iter().zip(places);
        let shared = shared.filter(|(policy, _)| policy.limit.fallback == Fallback::LocalShare);
        let mut claims: Each<Claim<'_>> = Each::new();
        for (policy, place) in shared.clone() {
            buckets.learn(&place.hold, place.lease.borrow().full_at(), now);
            let bucket = Bucket::share(policy.limit.rate, nodes);
            claims.push(Claim { hold: &place.hold, bucket });
        }
        let tally = buckets.admit(&claims, now);
        if tally.admitted {
            let crowd = self.shared.crowd();
            for place in places {
                place.lease.borrow_mut().spend_without_redis(now, crowd);
            }
        }
        let claimed = claims.iter().map(|claim| claim.bucket);
        judge(shared.map(|(policy, _)| policy).zip(claimed), &tally)
    }
}

impl Drop for WorkerLimiter {
    fn drop(&mut self) {
        self.shared.workers.fetch_sub(1, Relaxed);
    }
}

fn judge<'a>(rows: impl Iterator<Item = (&'a Policy<'a>, Bucket)>, tally: &Tally) -> Verdict {
    let rows = rows.zip(&tally.ahead);
    let row = |((policy, bucket), ahead): ((&Policy<'_>, Bucket), &u64)| {
        (policy.scope.name(), bucket, *ahead)
    };
    verdict(tally.admitted, rows.map(row))
}

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
