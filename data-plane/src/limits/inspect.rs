//! Where limits stand, for people who ask; nothing on the way of a request.
//!
//! In Redis it is asked over a connection of its own; tokens that workers hold count as taken.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use fastgate::model::{Cost, Limit, Measure};
use redis::RedisError;
use thiserror::Error;
use tokio::time::{error::Elapsed, timeout};

use super::{
    Limiter, Shared, State,
    ask::{Ask, Grant},
    buckets::{Claim, Class, Hold},
    gcra::{Bucket, Level},
    policy::{Scope, Subject},
    redis::Looker,
    slots::{LIFE, share},
};

/// How long Redis may take to say where limits stand.
const PATIENCE: Duration = Duration::from_secs(2);

/// Limits that are asked about. It holds nothing of a worker and nothing of a snapshot.
pub(crate) struct Inspection {
    shared: Arc<Shared>,
    state: State,
    asked: Vec<Asked>,
}

struct Asked {
    name: Arc<str>,
    what: What,
}

enum What {
    /// One of units.
    Bucket(Bucket),
    /// How many slots there are.
    Slots(u64),
}

/// Where one limit stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Units there are.
    pub(crate) remaining: u64,
    /// Seconds until all are there again, rounded up.
    pub(crate) reset: u64,
}

/// Why it can't be said.
#[derive(Debug, Error)]
pub(crate) enum Unseen {
    #[error("can't ask redis: {0}")]
    Redis(#[from] RedisError),
    #[error("gets no answer of redis")]
    Silent(#[from] Elapsed),
    #[error("can't read what redis says")]
    Strange,
}

impl Limiter {
    /// Begins to ask.
    pub(crate) fn inspect(&self) -> Inspection {
        Inspection { shared: self.0.clone(), state: self.state(), asked: Vec::new() }
    }
}

impl Inspection {
    /// Adds a limit; answers come in the order of these.
    pub(crate) fn add(
        &mut self,
        subject: Subject<'_>,
        scope: Scope<'_>,
        limit: Limit,
        cost: &Cost,
    ) {
        let environment = &self.shared.environment;
        let (name, what) = match limit.measure {
            Measure::Tokens(tokens) => {
                // What is left may be less than one request takes.
                let unit = if let Cost::Fixed(_) = cost { &Cost::ONE } else { cost };
                (scope.bucket(environment, subject), What::Bucket(Bucket::new(tokens, unit)))
            }
            Measure::Concurrent(most) => {
                (scope.slots(environment, subject), What::Slots(most.get().into()))
            }
        };
        self.asked.push(Asked { name: name.into(), what });
    }

    /// Whether all nodes count together.
    pub(crate) fn is_shared(&self) -> bool {
        self.state == State::Redis
    }

    /// Says where all stand.
    ///
    /// # Errors
    /// When Redis can't say.
    pub(crate) async fn look(self) -> Result<Vec<Found>, Unseen> {
        match (self.is_shared(), &self.shared.redis) {
            (true, Some(redis)) => {
                let found = async {
                    let mut looker = Looker::connect(redis).await?;
                    let mut found = Vec::with_capacity(self.asked.len());
                    for asked in &self.asked {
                        found.push(asked.look(&mut looker).await?);
                    }
                    Ok(found)
                };
                timeout(PATIENCE, found).await?
            }
            _ => Ok(self.asked.iter().map(|asked| self.look_here(asked)).collect()),
        }
    }

    fn look_here(&self, asked: &Asked) -> Found {
        let Shared { buckets, clock, nodes, under_way, .. } = &*self.shared;
        let nodes = match self.state {
            State::Fallback => nodes.sharing(),
            State::Local | State::Redis => 1,
        };
        match asked.what {
            What::Bucket(bucket) => {
                let (hold, bucket) = (asked.hold(), bucket.share(nodes));
                found(bucket, buckets.level(Claim { hold: &hold, bucket }, clock.now()))
            }
            What::Slots(limit) => {
                let used = under_way.find(&asked.name).load(Relaxed);
                Found { remaining: share(limit, nodes).saturating_sub(used), reset: 0 }
            }
        }
    }
}

impl Asked {
    fn hold(&self) -> Hold {
        Hold::new(Class::Key, self.name.clone())
    }

    async fn look(&self, looker: &mut Looker) -> Result<Found, Unseen> {
        match self.what {
            What::Bucket(bucket) => {
                let numbers = looker.limit(&self.name, Ask::about(bucket)).await?;
                let grant = Grant::read(&numbers).ok_or(Unseen::Strange)?;
                Ok(found(bucket, bucket.level_of(grant.taken, grant.ends_in)))
            }
            What::Slots(limit) => {
                let used = looker.slots(&self.name, LIFE / 1_000_000).await?;
                Ok(Found { remaining: limit.saturating_sub(used), reset: 0 })
            }
        }
    }
}

fn found(bucket: Bucket, level: Level) -> Found {
    let reset = level.resets_in.div_ceil(1_000_000_000);
    Found { remaining: bucket.free(level.taken), reset }
}
