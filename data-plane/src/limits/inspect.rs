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
    ask::{Ask, Back, Grant},
    buckets::{Claim, Class, Hold},
    gcra::{Bucket, Level},
    policy::{Scope, Subject},
    redis::Looker,
    slots::share,
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
    /// Whether it is the subject's alone, and not everybody's.
    is_own: bool,
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
        let name = scope.bucket(&self.shared.environment, subject);
        let is_own = !matches!(subject, Subject::Route(_));
        let (name, what) = match limit.measure {
            Measure::Tokens(tokens) => {
                // What is left may be less than one request takes.
                let unit = if let Cost::Fixed(_) = cost { &Cost::ONE } else { cost };
                (name, What::Bucket(Bucket::new(tokens, unit)))
            }
            Measure::Concurrent(most) => (name + ":slots", What::Slots(most.get().into())),
        };
        self.asked.push(Asked { name: name.into(), what, is_own });
    }

    /// Whether all nodes count together.
    pub(crate) fn is_shared(&self) -> bool {
        self.state == State::Redis
    }

    /// Makes what is the subject's own full again, then says where all stand.
    ///
    /// # Errors
    /// When Redis can't say.
    pub(crate) async fn reset_and_look(self) -> Result<Vec<Found>, Unseen> {
        let own = self.asked.iter().filter(|asked| asked.is_own);
        let own = own.filter_map(|asked| Some((asked, asked.bucket()?)));
        if let (true, Some(redis)) = (self.is_shared(), &self.shared.redis) {
            let filled = async {
                let mut looker = Looker::connect(redis).await?;
                for (asked, bucket) in own.clone() {
                    looker.fill(&asked.name, bucket).await?;
                }
                Ok::<_, RedisError>(())
            };
            timeout(PATIENCE, filled).await??;
        } else {
            let now = self.shared.clock.now();
            own.clone().for_each(|(asked, _)| self.shared.buckets.fill(&asked.hold(), now));
        }
        // Afterwards: until then workers may hear how full they were.
        self.shared.resets.note(own.map(|(asked, _)| asked.name.clone()));
        self.look().await
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
    fn bucket(&self) -> Option<Bucket> {
        match self.what {
            What::Bucket(bucket) => Some(bucket),
            What::Slots(_) => None,
        }
    }

    fn hold(&self) -> Hold {
        Hold::new(Class::Key, self.name.clone())
    }

    async fn look(&self, looker: &mut Looker) -> Result<Found, Unseen> {
        match self.what {
            What::Bucket(bucket) => {
                let back = Back::default();
                let ask = Ask { bucket, want: 0, spent: 0, back, floor: 0, is_recall: false };
                let numbers = looker.limit(&self.name, ask).await?;
                let grant = Grant::read(&numbers).ok_or(Unseen::Strange)?;
                Ok(found(bucket, bucket.level_of(grant.taken, grant.ends_in)))
            }
            What::Slots(limit) => {
                let used: u64 = looker.slots(&self.name).await?;
                Ok(Found { remaining: limit.saturating_sub(used), reset: 0 })
            }
        }
    }
}

fn found(bucket: Bucket, level: Level) -> Found {
    let reset = level.resets_in.div_ceil(1_000_000_000);
    Found { remaining: bucket.free(level.taken), reset }
}
