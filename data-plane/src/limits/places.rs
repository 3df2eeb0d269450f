//! What a worker has at hand of the buckets its requests take tokens from.

use std::{
    cell::{Cell, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use fastgate::model::{Cost, Id, Tokens};

use super::{
    ask::Grant,
    buckets::{Class, Hold},
    flight::Flight,
    forgotten::{Care, Forgotten, SETTLED, Unit},
    gcra::{Bucket, Refill},
    label::{Label, Labels},
    lease::Lease,
    policy::{Counted, Policy, Subject},
    shelf::{Keep, Shelves, Spot},
    waiting::Waiters,
};

/// The places of a worker. One takes about 250 bytes, and as many again once it has a lease.
pub(super) struct Places {
    environment: Id,
    labels: Rc<Labels>,
    shelves: Shelves<Place>,
}

/// What a worker has at hand of one bucket. Thrown out, tokens of a rate that are held there are lost, as
/// if they had ended.
pub(super) struct Place {
    spot: Spot,
    /// What its limit is called.
    pub(super) label: Label,
    /// The limit as it was last, what it counts, and its bucket: so it is seldom computed.
    limit: Cell<(Tokens, Unit, Bucket)>,
    /// Its bucket in this process.
    pub(super) hold: Hold,
    // The two below are borrowed for single calls of each.
    /// Made when it is first asked for, which without Redis it never is.
    lease: RefCell<Option<Box<Lease>>>,
    /// The call to Redis under way for it, and which of the call's buckets it is.
    pub(super) flight: RefCell<Option<(Arc<Flight>, usize)>>,
    /// How many requests wait for that call.
    pub(super) waiting: Waiters,
    /// Whether it is known to have tokens that may have to be given back.
    pub(super) is_listed: Cell<bool>,
    /// Of its quota, which may be forgotten.
    care: RefCell<Option<Arc<Care>>>,
}

/// Where the caller of a limiter keeps the place of one policy, so that it need not be looked for
/// with every request.
#[derive(Default)]
pub(crate) struct AtHand(RefCell<Option<Rc<Place>>>);

impl Places {
    /// None yet.
    pub(super) fn new(environment: Id, labels: Rc<Labels>) -> Self {
        Self { environment, labels, shelves: Shelves::new() }
    }

    /// Where requests are counted for a policy, as its limit is now.
    pub(super) fn find(&self, policy: &Policy<'_>) -> Rc<Place> {
        let place = match policy.at_hand {
            Some(at_hand) => at_hand.find(|| self.look_for(policy)),
            None => self.look_for(policy),
        };
        place.follow(policy.measure, policy.cost);
        place
    }

    /// How many there are of addresses.
    #[cfg(test)]
    pub(super) fn of_addresses(&self) -> usize {
        self.shelves.of_addresses()
    }

    fn look_for(&self, policy: &Policy<'_>) -> Rc<Place> {
        let Policy { subject, scope, measure, cost, .. } = *policy;
        self.shelves.find(subject, scope, |spot| {
            let class = match subject {
                Subject::Key(_) | Subject::ResetKey(..) | Subject::Route(_) => Class::Key,
                Subject::Address(_) => Class::Address,
            };
            let name = scope.bucket(&self.environment, subject);
            let bucket = Bucket::new(measure, cost);
            Place {
                spot,
                label: self.labels.find(scope),
                limit: Cell::new((measure, Unit::of(cost), bucket)),
                hold: Hold::new(class, name.into()),
                lease: RefCell::default(),
                flight: RefCell::default(),
                waiting: Waiters::default(),
                is_listed: Cell::new(false),
                care: RefCell::default(),
            }
        })
    }
}

impl AtHand {
    fn find(&self, look_for: impl FnOnce() -> Rc<Place>) -> Rc<Place> {
        let mut held = self.0.borrow_mut();
        match &*held {
            Some(place) if place.spot.touch() => place.clone(),
            _ => held.insert(look_for()).clone(),
        }
    }
}

impl Place {
    /// The bucket as of the last request.
    pub(super) fn bucket(&self) -> Bucket {
        self.limit.get().2
    }

    /// The limit as of the last request.
    pub(super) fn tokens(&self) -> Tokens {
        self.limit.get().0
    }

    /// What is leased of the bucket from Redis.
    pub(super) fn lease(&self) -> RefMut<'_, Lease> {
        RefMut::map(self.lease.borrow_mut(), |lease| {
            &mut **lease.get_or_insert_with(|| Box::new(Lease::new(self.bucket())))
        })
    }

    /// Units a request takes, or is charged with by the one.
    pub(super) fn units(&self) -> u64 {
        match self.limit.get().1 {
            Unit::Requests(units) => units.into(),
            Unit::RequestBytes | Unit::ResponseBytes | Unit::Told => 1,
        }
    }

    /// What it counts.
    pub(super) fn counts(&self) -> Counted {
        match self.limit.get().1 {
            Unit::Requests(_) | Unit::Told => Counted::Units,
            Unit::RequestBytes | Unit::ResponseBytes => Counted::ContentBytes,
        }
    }

    /// Takes the call under way for it, and which of its buckets it is, if that was answered.
    pub(super) fn landed(&self) -> Option<(Arc<Flight>, usize)> {
        let is_answered =
            self.flight.borrow().as_ref().is_some_and(|(flight, _)| flight.answer().is_some());
        if is_answered { self.flight.take() } else { None }
    }

    /// Whether it was thrown out.
    pub(super) fn is_gone(&self) -> bool {
        self.spot.is_gone()
    }

    /// Whether there is something to be told to Redis, or to be heard of it, that no request may come for.
    pub(super) fn has_business(&self) -> bool {
        self.flight.borrow().is_some()
            || self.lease.borrow().as_ref().is_some_and(|lease| lease.has_business())
    }

    /// Whether one call can reach the buckets of both, which are in one slot of a Redis Cluster then.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.spot.is_beside(&other.spot)
    }

    /// Follows a limit that was changed.
    fn follow(&self, tokens: Tokens, cost: &Cost) {
        let (as_it_was, unit_then, _) = self.limit.get();
        let unit = Unit::of(cost);
        if as_it_was != tokens || unit_then != unit {
            self.limit.set((tokens, unit, Bucket::new(tokens, cost)));
        }
    }

    /// The quota it stands for, if a grant says that Redis may have forgotten what was used of it, it
    /// can be told, and nobody looks after it yet.
    pub(super) fn forgotten(&self, grant: &Grant) -> Option<Forgotten> {
        let ends_in = grant.ends_in?;
        let (_, unit, bucket) = self.limit.get();
        if !grant.is_of_forgotten_quota() || unit == Unit::Told {
            return None;
        }
        let is_enough = |care: &Arc<Care>| match grant.passed_over {
            0 => care.goes_on(),
            _ => care.tell_again(),
        };
        if self.care.borrow().as_ref().is_some_and(is_enough) {
            return None;
        }
        let Refill::Calendar(calendar) = bucket.refill else { return None };
        let (key_id, route_id) = self.spot.counted()?;
        let care = Arc::new(Care::default());
        self.care.replace(Some(care.clone()));
        Some(Forgotten {
            name: self.hold.name().clone(),
            bucket,
            calendar,
            key_id: key_id.map(Into::into),
            route_id: route_id.cloned(),
            unit,
            settles_in: if grant.passed_over > 0 { SETTLED } else { Duration::ZERO },
            ends: Instant::now() + Duration::from_nanos(ends_in),
            care,
        })
    }
}

impl Keep for Place {
    fn spot(&self) -> &Spot {
        &self.spot
    }

    fn is_needed(&self) -> bool {
        let is_under_way = |flight: &Arc<Flight>| flight.answer().is_none();
        self.waiting.count() > 0
            || self.flight.borrow().as_ref().is_some_and(|(it, _)| is_under_way(it))
    }
}
