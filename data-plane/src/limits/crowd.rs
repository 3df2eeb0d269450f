//! Who leases from the same buckets, and how much of them one may hold.

use super::gcra::{Bucket, Refill};

/// L of the promise: see `lease.rs`.
pub(super) const SLACK: u64 = 100_000_000;

/// What all workers of all nodes hold for long: as many tokens as the rate gives in this time.
pub(super) const HELD: u64 = 10_000_000;

/// The most a worker is granted at a time: as many tokens as the rate gives in this time.
const LARGEST: u64 = SLACK;

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
