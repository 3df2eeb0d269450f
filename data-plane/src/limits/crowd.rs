//! Who leases from the same buckets, and how much of them one may hold.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::gcra::{Bucket, Refill};

/// L of the promise: see `lease.rs`.
pub(super) const SLACK: u64 = 100_000_000;

/// What all workers of all nodes hold for long: as many tokens as the rate gives in this time.
pub(super) const HELD: u64 = 10_000_000;

/// The most a worker is granted at a time: as many tokens as the rate gives in this time.
const LARGEST: u64 = SLACK;

/// How many nodes share the limits of the environment.
#[derive(Default, Debug)]
pub(super) struct Nodes {
    /// 0: not known yet.
    now: AtomicU32,
    /// When this node ran before; 0: not known either.
    before: AtomicU32,
}

impl Nodes {
    /// Notes how many there are. True: they are not as many as was known.
    pub(super) fn set(&self, nodes: u32) -> bool {
        let nodes = nodes.max(1);
        self.now.swap(nodes, Relaxed) != nodes
    }

    /// Notes how many there were.
    pub(super) fn set_before(&self, nodes: u32) {
        self.before.store(nodes, Relaxed);
    }

    /// How many there are; 0: that is not known.
    pub(super) fn known(&self) -> u64 {
        self.now.load(Relaxed).into()
    }

    /// How many a limit is divided among where each enforces its share: at least 1.
    pub(super) fn sharing(&self) -> u64 {
        let now = match self.now.load(Relaxed) {
            0 => self.before.load(Relaxed),
            now => now,
        };
        now.max(1).into()
    }
}

/// Who else leases from the same buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crowd {
    /// 0: not known.
    pub(super) nodes: u64,
    /// Workers of this node; others are taken to have as many.
    pub(super) workers: u64,
}

impl Crowd {
    /// How many workers there are, as far as known.
    pub(super) fn size(self) -> u64 {
        (self.nodes * self.workers).max(self.workers).max(1)
    }

    /// The most tokens one worker holds for long.
    pub(super) fn held(self, bucket: Bucket) -> u64 {
        match bucket.refill {
            Refill::Steady if self.nodes > 0 => HELD / bucket.interval / self.size(),
            Refill::Steady | Refill::Calendar(_) => 0,
        }
    }

    /// The most tokens one worker is granted at a time of a bucket in which so much is taken. Half a
    /// burst is left to others, and most of what is left of a quota.
    pub(super) fn largest(self, bucket: Bucket, taken: u64) -> u64 {
        let most = match bucket.refill {
            Refill::Steady => (LARGEST / bucket.interval).min(bucket.tokens() / 2 / self.size()),
            Refill::Calendar(_) => bucket.free(taken) / 8 / self.size(),
        };
        most.max(1)
    }
}
