//! Quotas of which Redis knows nothing used: it may have lost what it knew. How much was used since the
//! day or month began, the control plane can tell from the audit log; until it has, requests pass.
//!
//! What was spent while Redis was away is in the audit log as well. A worker that tells of it after
//! somebody told what is stored is passed over, and that is told anew.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::{Duration, Instant},
};

use fastgate::model::{Calendar, Charge, Cost, Id};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};

use super::{Limiter, ask::Ask, gcra::Bucket, inspect::Unseen, redis::Looker};

/// Quotas that wait to be asked about. Further ones are found again.
const WAITING: usize = 1024;

/// How long Redis may take to hear of one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events of requests are stored within this time, where a control plane is there.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// How far the clocks of Redis and of a control plane may differ in when a period ends. Far less than a
/// day, so that nobody tells of one day's use what another's was.
const SKEW: Duration = Duration::from_secs(4 * 3600);

/// A quota that may be forgotten.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(super) name: Arc<str>,
    pub(super) bucket: Bucket,
    /// Its period.
    pub(crate) calendar: Calendar,
    /// Whose it is; `None`: everybody's on the route.
    pub(crate) key_id: Option<Box<str>>,
    /// Where it counts; `None`: everywhere.
    pub(crate) route_id: Option<Id>,
    /// What it counts.
    pub(crate) unit: Unit,
    /// Until then events of its use are on their way: it is to be asked for no earlier.
    pub(crate) settles_in: Duration,
    /// When the period is over, by Redis's clock.
    pub(super) ends: Instant,
    /// Shared with whoever found it.
    pub(super) care: Arc<Care>,
}

/// Whether somebody looks after a quota that may be forgotten.
#[derive(Debug)]
pub(super) struct Care(AtomicU8);

/// What is stored of it is asked for and told.
const ASKED: u8 = 0;

/// And once more then.
const AGAIN: u8 = 1;

/// It was told; or nobody will.
const OVER: u8 = 2;

/// Why Redis was not told what was used of a quota.
#[derive(Debug, Error)]
pub(crate) enum Untold {
    #[error(transparent)]
    Unseen(#[from] Unseen),
    /// The clocks of Redis and of who counted differ, or they are in different periods.
    #[error("the clocks of redis and of the control plane are {} seconds apart", .0.as_secs())]
    Apart(Duration),
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// So many units for each request.
    Requests(u32),
    RequestBytes,
    ResponseBytes,
    /// What answers say, of which nothing is stored.
    Told,
}

impl Default for Care {
    fn default() -> Self {
        Self(AtomicU8::new(ASKED))
    }
}

impl Care {
    /// Whether it goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.0.load(Acquire) != OVER
    }

    /// Has what is stored told once more when that is done. False: it is over.
    pub(super) fn tell_again(&self) -> bool {
        self.0.fetch_update(AcqRel, Acquire, |state| (state != OVER).then_some(AGAIN)).is_ok()
    }

    /// Ends, unless it is to be told once more. False: it is.
    fn end(&self) -> bool {
        let end = |state| Some(if state == AGAIN { ASKED } else { OVER });
        self.0.fetch_update(AcqRel, Acquire, end) != Ok(AGAIN)
    }
}

impl Forgotten {
    /// Notes that Redis was told what is stored of it. `Some`: that is to be done once more, in so long.
    pub(crate) fn was_told(&self) -> Option<Duration> {
        (!self.care.end()).then_some(SETTLED)
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        self.care.0.store(OVER, Release);
    }
}

impl Unit {
    /// What requests of this cost are counted in.
    pub(super) fn of(cost: &Cost) -> Self {
        match cost {
            Cost::Fixed(units) => Self::Requests(units.get()),
            Cost::Charged(Charge::RequestBytes) => Self::RequestBytes,
            Cost::Charged(Charge::ResponseBytes) => Self::ResponseBytes,
            Cost::Charged(Charge::Header(_)) => Self::Told,
        }
    }
}

/// Where workers say which quotas may be forgotten.
pub(super) struct Lost {
    found: mpsc::Sender<Forgotten>,
    /// Until somebody looks after them.
    waiting: Mutex<Option<mpsc::Receiver<Forgotten>>>,
}

impl Default for Lost {
    fn default() -> Self {
        let (found, waiting) = mpsc::channel(WAITING);
        Self { found, waiting: Mutex::new(Some(waiting)) }
    }
}

impl Lost {
    /// Notes one. False: there are too many already.
    pub(super) fn note(&self, forgotten: Forgotten) -> bool {
        self.found.try_send(forgotten).is_ok()
    }
}

impl Limiter {
    /// The quotas that may be forgotten, for the one who looks after them; `None`: there is one.
    pub(crate) fn forgotten(&self) -> Option<mpsc::Receiver<Forgotten>> {
        self.0.lost.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells Redis how many requests, or bytes, of a quota were used in the period that ends so soon, by
    /// the clock of who counted them.
    ///
    /// # Errors
    /// When Redis can't be told, or counts another period.
    pub(crate) async fn recall(
        &self,
        forgotten: &Forgotten,
        used: u64,
        ends_in: Duration,
    ) -> Result<(), Untold> {
        let Some(redis) = &self.0.redis else { return Ok(()) };
        let remaining = forgotten.ends.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            // The next period has begun for Redis, in which nothing is forgotten yet.
            return Ok(());
        }
        // Around midnight one may be in the old day and the other in the new: before long both are in it.
        let apart = remaining.abs_diff(ends_in);
        if apart > SKEW {
            return Err(Untold::Apart(apart));
        }
        let bucket = forgotten.bucket;
        let floor = bucket.charge(0, used);
        let ask = Ask { floor, is_recall: true, ..Ask::about(bucket) };
        let told =
            async { Looker::connect(redis).await?.limit(&forgotten.name, ask).await.map(drop) };
        let told = timeout(PATIENCE, told).await.map_err(Unseen::from)?;
        Ok(told.map_err(Unseen::from)?)
    }
}

#[cfg(test)]
mod tests {
    use fastgate::model::{Quota, Tokens};

    use super::*;
    use crate::limits::mirror::{self, Kept};

    #[test]
    fn what_is_to_be_told_once_more_while_it_is_told_is() {
        let care = Care::default();
        assert!(care.goes_on() && care.tell_again());
        assert!(!care.end() && care.goes_on());
        assert!(care.end() && !care.goes_on());
        assert!(!care.tell_again(), "somebody else is to be found");
    }

    #[test]
    fn a_quota_is_taken_for_a_forgotten_one_until_somebody_told_of_its_use() {
        let quota = Quota::parse(40, Calendar::Month).expect("a quota");
        let bucket = Bucket::new(Tokens::Quota(quota), &Cost::ONE);
        let token = Ask { want: 1, ..Ask::about(bucket) };
        let recall = Ask { floor: 30, is_recall: true, ..Ask::about(bucket) };
        let mut kept = [Kept::default()];
        let mut grant = |ask| mirror::call(&mut kept, &[ask], 1_800_000_000_000_000_000)[0];
        // The answer to the first may be lost, or whoever got it end.
        assert!(grant(token).is_of_forgotten_quota());
        assert!(grant(token).is_of_forgotten_quota());
        assert_eq!(grant(recall).taken, 30);
        assert!(!grant(token).is_of_forgotten_quota());
    }
}
