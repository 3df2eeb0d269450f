//! What is asked of the limiter and what it answers.

use std::{net::IpAddr, time::Duration};

use fastgate::model::{Id, Limit};

/// Whose requests are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Subject<'a> {
    /// Those made with a key.
    Key(&'a Id),
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
        /// When all of them would admit it: at least a second, for `Retry-After`.
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
