//! Rate limits: how many requests a key may make, and a key (or an address) on a route.
//!
//! A limit of n a minute is a bucket of n tokens, refilled at n/60 a second. With Redis the
//! buckets are shared by all nodes, one script call per request; without it they are in this
//! process, by the same algorithm. While Redis is away each limit does what its own fallback says.
//! Tokens leased in batches will be spent in [`WorkerLimiter::admit`], before Redis is asked.

mod buckets;
mod gcra;
mod policy;
mod redis;

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use ::redis::{Client, RedisError};
use fastgate::model::{Fallback, Id};
pub(crate) use policy::{Policy, Scope, Standing, Standings, Subject, Verdict};
use secrecy::{ExposeSecret as _, SecretString};

use self::{
    buckets::{Buckets, Claim, Class, Tally, WorkerBuckets},
    gcra::Bucket,
    policy::{Each, verdict},
    redis::Link,
};

/// The limits of a node, shared by its workers.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {
    environment: Id,
    redis: Option<Client>,
    buckets: Arc<Buckets>,
    nodes: AtomicU32,
    workers: AtomicUsize,
    /// Workers that have a connection to Redis.
    up: Arc<AtomicUsize>,
}

impl Limiter {
    /// Limits for one environment, counted in Redis, or in this process where there is none.
    ///
    /// # Errors
    /// When the URL is not one of a Redis server.
    pub(crate) fn new(
        environment: &Id,
        redis_url: Option<&SecretString>,
    ) -> Result<Self, RedisError> {
        Ok(Self(Arc::new(Shared {
            environment: environment.clone(),
            redis: redis_url.map(|url| Client::open(url.expose_secret())).transpose()?,
            buckets: Arc::new(Buckets::new()),
            nodes: AtomicU32::new(1),
            workers: AtomicUsize::new(0),
            up: Arc::default(),
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
        } else if self.0.up.load(Relaxed) < self.0.workers.load(Relaxed) {
            State::Fallback
        } else {
            State::Redis
        }
    }

    /// The limiter of one worker. Call it inside the worker's runtime: with Redis it keeps a
    /// connection of its own there.
    pub(crate) fn for_worker(&self) -> WorkerLimiter {
        self.0.workers.fetch_add(1, Relaxed);
        let link = self.0.redis.clone().map(|client| Link::start(client, self.0.up.clone()));
        WorkerLimiter {
            shared: self.0.clone(),
            link,
            buckets: WorkerBuckets::new(self.0.buckets.clone()),
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
    link: Option<Link>,
    buckets: WorkerBuckets,
}

impl WorkerLimiter {
    /// Takes one token from the bucket of each policy, or none at all. At most
    /// [`Standings::MAX`] policies.
    pub(crate) async fn admit(&self, subject: Subject<'_>, policies: &[Policy<'_>]) -> Verdict {
        match &self.link {
            None => self.admit_here(subject, policies),
            // Boxed: every request's future would have to hold it, with Redis or without.
            Some(link) => Box::pin(self.admit_in_redis(link, subject, policies)).await,
        }
    }

    fn admit_here(&self, subject: Subject<'_>, policies: &[Policy<'_>]) -> Verdict {
        let names = self.names(subject, policies);
        let claims = claims(subject, policies, &names);
        judge(policies.iter(), &claims, &self.buckets.admit(&claims))
    }

    async fn admit_in_redis(
        &self,
        link: &Link,
        subject: Subject<'_>,
        policies: &[Policy<'_>],
    ) -> Verdict {
        let names = self.names(subject, policies);
        let claims = claims(subject, policies, &names);
        match link.admit(&claims).await {
            Ok(tally) => {
                self.buckets.learn(&claims, &tally);
                judge(policies.iter(), &claims, &tally)
            }
            Err(redis::Away) => self.fall_back(subject, policies, &names),
        }
    }

    /// Where each policy is counted.
    fn names(&self, subject: Subject<'_>, policies: &[Policy<'_>]) -> Each<String> {
        let environment = &self.shared.environment;
        policies.iter().map(|policy| policy.scope.bucket(environment, subject)).collect()
    }

    /// What the policies say while Redis is away. A share is a bucket that takes as long to fill as
    /// the whole one, so it goes on from where Redis was last heard to be.
    fn fall_back(
        &self,
        subject: Subject<'_>,
        policies: &[Policy<'_>],
        names: &[String],
    ) -> Verdict {
        if policies.iter().any(|policy| policy.limit.fallback == Fallback::Closed) {
            return Verdict::Unavailable;
        }
        let nodes = self.shared.nodes.load(Relaxed);
        let shared = policies.iter().zip(names);
        let shared = shared.filter(|(policy, _)| policy.limit.fallback == Fallback::LocalShare);
        let claims: Each<_> = shared
            .clone()
            .map(|(policy, name)| claim(subject, name, Bucket::share(policy.limit.rate, nodes)))
            .collect();
        let tally = self.buckets.admit(&claims);
        judge(shared.map(|(policy, _)| policy), &claims, &tally)
    }
}

impl Drop for WorkerLimiter {
    fn drop(&mut self) {
        self.shared.workers.fetch_sub(1, Relaxed);
    }
}

fn claims<'a>(
    subject: Subject<'_>,
    policies: &[Policy<'_>],
    names: &'a [String],
) -> Each<Claim<'a>> {
    let named = policies.iter().zip(names);
    named.map(|(policy, name)| claim(subject, name, Bucket::new(policy.limit.rate))).collect()
}

fn claim<'a>(subject: Subject<'_>, name: &'a str, bucket: Bucket) -> Claim<'a> {
    let class = match subject {
        Subject::Key(_) => Class::Key,
        Subject::Address(_) => Class::Address,
    };
    Claim { class, name, bucket }
}

fn judge<'a>(
    policies: impl Iterator<Item = &'a Policy<'a>>,
    claims: &[Claim<'_>],
    tally: &Tally,
) -> Verdict {
    let rows = policies.zip(claims).zip(&tally.ahead);
    verdict(
        tally.admitted,
        rows.map(|((policy, claim), ahead)| (policy.scope.name(), claim.bucket, *ahead)),
    )
}

#[cfg(test)]
mod tests;
