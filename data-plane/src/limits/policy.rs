//! What is asked of the limiter and what it answers.

use std::{
    fmt::Write as _,
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use fastgate::model::{Cost, Fallback, Id, Limit, Measure, Tokens};
use smallvec::SmallVec;

use super::{
    concurrency::Slot,
    gcra::{Bucket, Level, Refill},
    label::Label,
    places::{AtHand, Place},
};

/// Whose requests are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Subject<'a> {
    /// Those made with a key.
    Key(&'a str),
    /// Those made with a key since its limits were made full again, at this millisecond since 1970: no
    /// two resets of a key have the same.
    ResetKey(&'a str, NonZeroU64),
    /// Those from an address, where no key is asked for.
    Address(IpAddr),
    /// All on a route.
    Route(&'a Id),
}

impl<'a> Subject<'a> {
    /// The requests of a key, and since when they count.
    pub(crate) fn of_key(key_id: &'a str, limits_reset_at: Option<NonZeroU64>) -> Self {
        match limits_reset_at {
            None => Self::Key(key_id),
            Some(at) => Self::ResetKey(key_id, at),
        }
    }

    /// The same as far as requests under way go: those are so whatever people do to limits.
    pub(super) fn under_way(self) -> Self {
        match self {
            Self::ResetKey(key_id, _) => Self::Key(key_id),
            Self::Key(_) | Self::Address(_) | Self::Route(_) => self,
        }
    }
}

/// One limit a request must pass.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a, M = Tokens> {
    /// Whose requests it counts.
    pub(super) subject: Subject<'a>,
    /// Which of them.
    pub(super) scope: Scope<'a>,
    /// How many.
    pub(super) measure: M,
    /// What the request takes of it.
    pub(super) cost: &'a Cost,
    /// What holds while Redis is away.
    pub(super) fallback: Fallback,
    /// Where its place may be at hand.
    pub(super) at_hand: Option<&'a AtHand>,
}

/// The limits one request must pass, and those that only watch it.
#[derive(Default)]
pub(crate) struct Policies<'a> {
    pub(super) enforced: Each<Policy<'a>>,
    // The two below are of few requests, and take no room in others.
    pub(super) shadow: Vec<Policy<'a>>,
    /// Those of requests under way, and whether they are in shadow mode.
    pub(super) concurrent: Vec<(Policy<'a, NonZeroU32>, bool)>,
}

impl<'a> Policies<'a> {
    /// Adds one, of which the request takes a unit.
    pub(crate) fn push(&mut self, subject: Subject<'a>, scope: Scope<'a>, limit: Limit) {
        self.push_at(&Cost::ONE, subject, scope, limit);
    }

    /// Adds one.
    pub(crate) fn push_at(
        &mut self,
        cost: &'a Cost,
        subject: Subject<'a>,
        scope: Scope<'a>,
        limit: Limit,
    ) {
        self.add((cost, limit), subject, scope, None);
    }

    /// Adds one, of which the request takes a unit, and whose place is mostly at hand there: always
    /// the same for the same subject and scope.
    pub(crate) fn push_at_hand(
        &mut self,
        at_hand: &'a AtHand,
        subject: Subject<'a>,
        scope: Scope<'a>,
        limit: Limit,
    ) {
        self.add((&Cost::ONE, limit), subject, scope, Some(at_hand));
    }

    fn add(
        &mut self,
        (cost, limit): (&'a Cost, Limit),
        subject: Subject<'a>,
        scope: Scope<'a>,
        at_hand: Option<&'a AtHand>,
    ) {
        let Limit { measure, fallback, shadow } = limit;
        match measure {
            Measure::Tokens(measure) => {
                let policy = Policy { subject, scope, measure, cost, fallback, at_hand };
                if shadow {
                    self.shadow.push(policy);
                } else {
                    self.enforced.push(policy);
                }
            }
            Measure::Concurrent(measure) => {
                let subject = subject.under_way();
                let policy = Policy { subject, scope, measure, cost, fallback, at_hand: None };
                self.concurrent.push((policy, shadow));
            }
        }
    }

    /// All of them: whose requests, which of them, how many, and what the request takes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Subject<'a>, Scope<'a>, Limit, &'a Cost)> {
        let of_tokens = |shadow| {
            move |policy: &Policy<'a>| {
                let measure = Measure::Tokens(policy.measure);
                let limit = Limit { measure, fallback: policy.fallback, shadow };
                (policy.subject, policy.scope, limit, policy.cost)
            }
        };
        let concurrent = self.concurrent.iter().map(|(policy, shadow)| {
            let measure = Measure::Concurrent(policy.measure);
            let limit = Limit { measure, fallback: policy.fallback, shadow: *shadow };
            (policy.subject, policy.scope, limit, policy.cost)
        });
        let (enforced, shadow) = (self.enforced.iter(), self.shadow.iter());
        enforced.map(of_tokens(false)).chain(shadow.map(of_tokens(true))).chain(concurrent)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.shadow.is_empty() && self.concurrent.is_empty()
    }
}

/// What a limit counts of a subject's requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Scope<'a> {
    /// All of them: the rate of a key.
    Key,
    /// All of them: a limit of the key's plan.
    Plan(&'a Id),
    /// Those on one route: the route's rate.
    Route(&'a Id),
    /// Those on one route: one of the route's further limits.
    OfRoute(&'a Id, &'a Id),
}

impl<'a> Scope<'a> {
    /// Where it is counted: `fg:rl:{env:subject}:policy`, and `fg:rl:{env:key}:since:time:policy` once
    /// the limits of the key were reset. So a reset is nothing but other buckets, new and full wherever
    /// they are, and whatever a node or Redis knew of the old ones says nothing of them. No policy
    /// begins with `since`.
    ///
    /// All buckets of a subject have the same hash tag, so that one script can reach them in a Redis
    /// Cluster. An address holds a `.` or `:`, an id neither, and no address begins with `route`: no
    /// client can count against somebody's key.
    pub(super) fn bucket(self, environment: &Id, subject: Subject<'_>) -> String {
        let mut name = String::with_capacity(96);
        for part in ["fg:rl:{", environment.as_str(), ":"] {
            name.push_str(part);
        }
        match subject {
            Subject::Key(id) | Subject::ResetKey(id, _) => name.push_str(id),
            Subject::Address(address) => name.push_str(&address.to_canonical().to_string()),
            Subject::Route(id) => {
                name.push_str("route:");
                name.push_str(id.as_str());
            }
        }
        let policy: [&str; 4] = match self {
            Self::Key => ["key", "", "", ""],
            Self::Plan(limit) => ["plan:", limit.as_str(), "", ""],
            Self::Route(route) => ["route:", route.as_str(), "", ""],
            Self::OfRoute(route, limit) => ["route:", route.as_str(), ":", limit.as_str()],
        };
        name.push_str("}:");
        if let Subject::ResetKey(_, at) = subject {
            // Writing to a text never fails.
            let _ = write!(name, "since:{at}:");
        }
        for part in policy {
            name.push_str(part);
        }
        name
    }

    /// Where its slots are, of requests under way.
    pub(super) fn slots(self, environment: &Id, subject: Subject<'_>) -> String {
        self.bucket(environment, subject.under_way()) + ":slots"
    }

    /// The route it is on; `None`: it counts on all.
    pub(crate) fn route_id(self) -> Option<&'a Id> {
        match self {
            Self::Key | Self::Plan(_) => None,
            Self::Route(route) | Self::OfRoute(route, _) => Some(route),
        }
    }

    /// How the policy is named in `RateLimit` headers and metrics: its kind, and the name of the
    /// limit.
    pub(crate) fn label(self) -> (&'static str, Option<&'a Id>) {
        match self {
            Self::Key => ("key", None),
            Self::Plan(limit) => ("", Some(limit)),
            Self::Route(_) => ("route", None),
            Self::OfRoute(_, limit) => ("route:", Some(limit)),
        }
    }
}

/// What the limiter says to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Every policy admits it, and counted it.
    Admitted(Standings),
    /// At least one policy refuses it; none counted it. Answer 429.
    Refused {
        /// Where the policies stand.
        standings: Standings,
        /// When all of them would admit it, in whole seconds, rounded up, for `Retry-After`.
        retry_after: Duration,
    },
    /// A policy that is `closed` while Redis is away refuses it. Answer 503.
    Unavailable,
}

/// Where the policies of a request stand, in their order: one standing for each that counted; one
/// that is `open` while Redis is away has none.
pub(crate) type Standings = Each<Standing>;

/// The places of a request among those under way.
pub(crate) type Entered = SmallVec<[Slot; 1]>;

/// Something of each policy of a request. Most have a key's and a route's at most.
pub(super) type Each<T> = SmallVec<[T; 2]>;

/// Where one policy stands after a request, for `RateLimit-Policy` and `RateLimit`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// What it is called.
    pub(crate) label: Label,
    /// What it admits in a window, or at a time.
    pub(crate) quota: u64,
    /// What it counts.
    pub(crate) counts: Counted,
    /// The length of the window, in seconds; `None` for requests at a time.
    pub(crate) window: Option<u32>,
    /// Requests it would admit at once from here.
    pub(crate) remaining: u64,
    /// Until all are there again, or where there is none until there is one, as `Retry-After` says of
    /// the same; in seconds, rounded up; `None`: who knows.
    pub(crate) reset: Option<u32>,
}

/// What a quota is told in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// Requests, or what answers say they cost.
    Units,
    ContentBytes,
    ConcurrentRequests,
}

impl Standing {
    /// Where a bucket stands: that of the place, or a node's share of it.
    pub(super) fn new(place: &Place, bucket: Bucket, level: Level) -> Self {
        let (quota, window) = match place.tokens() {
            Tokens::Rate(rate) => (rate.amount().into(), rate.period().seconds()),
            Tokens::Quota(quota) => (quota.amount(), quota.calendar().seconds()),
        };
        // A share may hold more tokens than its part of them, one at least, but is refilled no faster.
        let quota = match bucket.refill {
            Refill::Steady => (quota / (bucket.interval / place.bucket().interval).max(1)).max(1),
            Refill::Calendar(_) => bucket.capacity,
        };
        let remaining = bucket.free(level.taken) * place.units();
        let nanos = if remaining > 0 { level.resets_in } else { bucket.wait_nanos(level) };
        // A month at most.
        let reset = u32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        let (window, reset) = (Some(window), Some(reset));
        let counts = place.counts();
        Self { label: place.label.clone(), quota, counts, window, remaining, reset }
    }

    /// Where a limit of requests at a time stands.
    pub(super) fn concurrent(label: Label, quota: u64, remaining: u64) -> Self {
        let counts = Counted::ConcurrentRequests;
        Self { label, quota, counts, window: None, remaining, reset: None }
    }
}

/// Where a limit of a quota a window stands, with so much remaining until it is reset.
#[cfg(test)]
pub(crate) fn standing(
    name: &str,
    (quota, window): (u64, u32),
    (remaining, reset): (u64, u32),
) -> Standing {
    let (window, reset) = (Some(window), Some(reset));
    let counts = Counted::Units;
    Standing { label: Label::named(name), quota, counts, window, remaining, reset }
}
