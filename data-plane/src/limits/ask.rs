//! What a worker and `limit.lua` say to each other about one bucket.

use super::gcra::Bucket;

/// What is asked of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) bucket: Bucket,
    /// Tokens to be granted, if all buckets of the call have at least one. 0: none are wanted.
    pub(super) want: u64,
    /// Tokens that were spent while Redis was away.
    pub(super) spent: u64,
    /// Tokens that will not be spent.
    pub(super) back: Back,
}

/// Tokens of a grant that are given back.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Back {
    pub(super) tokens: u64,
    /// Of the grant, or of one before it.
    pub(super) mark: Mark,
}

/// Where a bucket stood after a grant: enough for it to know what of the grant is still in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The microsecond from which on the bucket was never full.
    pub(super) begun: u64,
    /// Nanoseconds of tokens taken since, those given back included.
    pub(super) gross: u64,
}

/// What a bucket gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) tokens: u64,
    /// How far ahead of the moment of the grant the bucket is full again.
    pub(super) ahead: u64,
    pub(super) mark: Mark,
}

impl Ask {
    /// As the script takes it.
    pub(super) fn arguments(&self) -> [u64; 7] {
        let Self { bucket, want, spent, back } = *self;
        let Back { tokens, mark } = back;
        [bucket.interval, bucket.capacity, want, spent, tokens, mark.begun, mark.gross]
    }
}

impl Grant {
    /// Numbers of the script's answer for one bucket.
    pub(super) const NUMBERS: usize = 4;

    /// Reads what the script answers for one bucket.
    pub(super) fn read(numbers: &[u64]) -> Option<Self> {
        let [tokens, ahead, begun, gross] = *numbers else { return None };
        Some(Self { tokens, ahead, mark: Mark { begun, gross } })
    }
}
