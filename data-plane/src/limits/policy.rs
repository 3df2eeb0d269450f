//! What is asked of the limiter and what it answers.

use std::{net::IpAddr, time::Duration};

use fastgate::model::{Id, Limit};
use smallvec::SmallVec;

use super::gcra::Bucket;

/// Whose requests are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Subject<'a> {
    /// Those made with a key.
    Key(&'a str),
    /// Those from an address, where no key is asked for.
    Address(IpAddr),
}

/// One limit a request must pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    /// What it counts of the subject's requests.
    pub(crate) scope: Scope<'a>,
    /// How many, and what holds while Redis is away.
    pub(crate) limit: Limit,
}

/// What a limit counts of a subject's requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Scope<'a> {
    /// All of them: the key's own limit.
    Key,
    /// Those on one route: the route's limit.
    Route(&'a Id),
}

impl Scope<'_> {
    /// Where it is counted: `fg:rl:{env:subject}:policy`. All buckets of a subject have the same
    /// hash tag, so that one script can reach them in a Redis Cluster. An address holds a `.` or
    /// `:`, an id neither: no client can count against somebody's key.
    pub(super) fn bucket(self, environment: &Id, subject: Subject<'_>) -> String {
        // Not by `format!`, which costs several times as much, for every request.
        let mut name = String::with_capacity(96);
        name.push_str("fg:rl:{");
        name.push_str(environment.as_str());
        name.push(':');
        match subject {
            Subject::Key(id) => name.push_str(id),
            Subject::Address(address) => name.push_str(&address.to_canonical().to_string()),
        }
        match self {
            Self::Key => name.push_str("}:key"),
            Self::Route(route) => {
                name.push_str("}:route:");
                name.push_str(route.as_str());
            }
        }
        name
    }

    /// How the policy is named in `RateLimit` headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Route(_) => "route",
        }
    }
}

/// What the limiter says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// Where the policies of a request stand, in their order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Standings([Option<Standing>; Self::MAX]);

impl Standings {
    /// The policies one request can have: a key's and a route's.
    pub(crate) const MAX: usize = 2;

    /// One standing for each policy that counted; one that is `open` while Redis is away has none.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.0.iter().flatten()
    }
}

/// The verdict on policies: the name, the bucket and how far ahead it is full, of each.
pub(super) fn verdict(
    admitted: bool,
    rows: impl Iterator<Item = (&'static str, Bucket, u64)>,
) -> Verdict {
    let mut standings = Standings::default();
    let mut wait = Duration::from_secs(1);
    for ((name, bucket, ahead), place) in rows.zip(&mut standings.0) {
        *place = Some(bucket.standing(name, ahead));
        wait = wait.max(bucket.wait(ahead));
    }
    if admitted {
        Verdict::Admitted(standings)
    } else {
        let retry_after = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        Verdict::Refused { standings, retry_after }
    }
}

/// Something of each policy of a request.
pub(super) type Each<T> = SmallVec<[T; Standings::MAX]>;

/// Where one policy stands after a request, for `RateLimit-Policy` and `RateLimit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// `key` or `route`.
    pub(crate) name: &'static str,
    /// Requests a minute.
    pub(crate) quota: u32,
    /// Requests it would admit at once from here.
    pub(crate) remaining: u32,
    /// Until its bucket is full again, in seconds, rounded up.
    pub(crate) reset: u64,
}
