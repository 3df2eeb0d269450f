//! What a worker and `limit.lua` say to each other about one bucket.

use fastgate::model::Calendar;

use super::gcra::{Bucket, Refill};

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
    /// The room that is taken at least: a Redis that comes back may have forgotten.
    pub(super) floor: u64,
    /// Whether the floor is all that was used of a quota, as it is stored. From then on it is not taken
    /// for a forgotten one.
    pub(super) is_recall: bool,
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
    /// Of a rate the microsecond from which on the bucket was never full; of a quota the second its
    /// day or month ends.
    pub(super) begun: u64,
    /// Of a rate: nanoseconds of tokens taken since, those given back included. Of a quota: 0 until
    /// it was recalled, else 1.
    pub(super) gross: u64,
}

/// What a bucket gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) tokens: u64,
    /// The room taken in the bucket.
    pub(super) taken: u64,
    pub(super) mark: Mark,
    /// Nanoseconds until the day or month of a quota is over; `None` for rates.
    pub(super) ends_in: Option<u64>,
}

impl Back {
    /// These tokens too.
    pub(super) fn add(&mut self, tokens: u64, mark: Mark) {
        *self = if self.tokens > 0 && self.mark.begun == mark.begun {
            Self { tokens: self.tokens + tokens, mark: self.mark.older(mark) }
        } else {
            // Of the two, the later one has more left to give.
            Self { tokens, mark }
        };
    }
}

impl Mark {
    /// The mark that both can be given back by. For different ones of `begun`, none can.
    pub(super) fn older(self, other: Self) -> Self {
        if self.begun == other.begun {
            Self { gross: self.gross.min(other.gross), ..self }
        } else if self.begun > other.begun {
            other
        } else {
            self
        }
    }
}

impl Ask {
    /// As the script takes it.
    pub(super) fn arguments(&self) -> [u64; 11] {
        let Self { bucket, want, spent, back, floor, is_recall } = *self;
        let Bucket { interval, capacity, refill, .. } = bucket;
        let Back { tokens, mark } = back;
        let refill = match refill {
            Refill::Steady => 0,
            Refill::Calendar(Calendar::Day) => 1,
            Refill::Calendar(Calendar::Month) => 2,
        };
        let most = bucket.most();
        let Mark { begun, gross } = mark;
        let is_recall = u64::from(is_recall);
        [interval, capacity, most, refill, want, spent, tokens, begun, gross, floor, is_recall]
    }
}

impl Grant {
    /// Whether it is of a quota of which Redis may have forgotten what was used.
    pub(super) fn is_of_forgotten_quota(&self) -> bool {
        self.ends_in.is_some() && self.mark.gross == 0
    }

    /// Numbers of the script's answer for one bucket.
    pub(super) const NUMBERS: usize = 5;

    /// Reads what the script answers for one bucket.
    pub(super) fn read(numbers: &[u64]) -> Option<Self> {
        let [tokens, taken, begun, gross, ends_in] = *numbers else { return None };
        let ends_in = Some(ends_in).filter(|ends_in| *ends_in > 0);
        Some(Self { tokens, taken, mark: Mark { begun, gross }, ends_in })
    }
}
