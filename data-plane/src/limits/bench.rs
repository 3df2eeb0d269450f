//! A worker that holds tokens of two buckets, for benchmarks: what a request costs that is admitted
//! without Redis.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::rc::Rc;

use fastgate::model::{Fallback, Id, Limit, RateLimit};
use futures_util::FutureExt as _;
use tokio::runtime::Runtime;

use super::{Limiter, Policies, Scope, Subject, Verdict, WorkerLimiter, ask::Grant, redis::Link};

/// As many requests as are made before tokens end.
const EVERY: u32 = 10_000;

/// A worker that holds tokens.
pub struct LeaseHit {
    worker: WorkerLimiter,
    route: Id,
    limit: Limit,
    left: u32,
    _runtime: Runtime,
}

impl LeaseHit {
    /// One of a key with a limit, on a route with one.
    #[must_use]
    pub fn ready() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let environment = Id::default_environment();
        let limiter = Limiter::new(&environment, None).expect("no Redis");
        let shared = limiter.0;
        let link = {
            let _inside = runtime.enter();
            Rc::new(Link::idle(shared.clock))
        };
        let worker = WorkerLimiter::new(shared, Some(link));
        let rate = RateLimit::parse(1_000_000_000).expect("a rate");
        let limit = Limit::a_minute(rate, Fallback::LocalShare);
        Self {
            worker,
            route: Id::parse("orders").expect("an id"),
            limit,
            left: 0,
            _runtime: runtime,
        }
    }

    /// Admits a request.
    pub fn admit(&mut self) -> bool {
        let subject = Subject::Key("key-with-an-id-of-usual-length");
        let mut policies = Policies::default();
        policies.push(subject, Scope::Key, self.limit);
        policies.push(subject, Scope::Route(&self.route), self.limit);
        if self.left == 0 {
            self.left = EVERY;
            self.fill(&policies);
        }
        self.left -= 1;
        let verdict = self.worker.admit(&policies).now_or_never();
        matches!(verdict, Some(Verdict::Admitted(_)))
    }

    fn fill(&self, policies: &Policies<'_>) {
        let now = self.worker.shared.clock.now();
        for place in policies.enforced.iter().map(|policy| self.worker.places.find(policy)) {
            let mut lease = place.lease();
            lease.follow(place.bucket(), 1);
            let ask = lease.ask(now, EVERY.into(), self.worker.shared.crowd());
            let grant = Grant { tokens: ask.want, taken: 0, ..Grant::default() };
            lease.take((&ask, &grant), (1, now, now), self.worker.shared.crowd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_the_benchmark_is_admitted() {
        let mut hit = LeaseHit::ready();
        assert!((0..3 * EVERY).all(|_| hit.admit()));
    }
}
