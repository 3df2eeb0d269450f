//! What a worker and `limit.lua` say to each other about one bucket.

use fastgate::model::Calendar;

use super::gcra::{Bucket, Refill};

/// What is asked of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) bucket: Bucket,
    /// Tokens to be granted, if all buckets of the call have at least one. 0: none are wanted.
    pub(super) want: u64,
    /// Tokens that were spent while Redis was away, or are charged.
    pub(super) spent: u64,
    /// Microseconds since the first of them was.
    pub(super) spent_for: u64,
    /// Tokens that will not be spent.
    pub(super) back: Back,
    /// The room that is taken at least: a Redis that comes back may have forgotten.
    pub(super) floor: u64,
    /// The value of a quota the floor was seen in: where it is still there, nothing is forgotten.
    pub(super) seen: Version,
    /// Whether the floor is all that was used of a quota, as it is stored. From then on it is not taken
    /// for a forgotten one.
    pub(super) is_recall: bool,
}

/// A value that Redis has of a quota, as of the microseconds it was made in and last written.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Version {
    pub(super) made: u64,
    pub(super) written: u64,
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
    /// Of a rate the microsecond from which on the bucket was never full; of a quota that in which
    /// this Redis first heard of it.
    pub(super) begun: u64,
    /// Of a rate: nanoseconds of tokens taken since, those given back included. Of a quota: the
    /// microsecond in which it was recalled, 0 until then.
    pub(super) gross: u64,
}

/// What a bucket gives.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) tokens: u64,
    /// The room taken in the bucket.
    pub(super) taken: u64,
    pub(super) mark: Mark,
    /// Nanoseconds until the day or month of a quota is over; `None` for rates.
    pub(super) ends_in: Option<u64>,
    /// Tokens spent of a quota that were not added: it was recalled since the first of them was, and
    /// that may have counted them. What is stored is to be told anew.
    pub(super) passed_over: u64,
    /// The value of a quota as it is now; of a rate none.
    pub(super) version: Version,
}

impl Back {
    /// These tokens too.
    pub(super) fn add(&mut self, tokens: u64, mark: Mark) {
        *self = if self.tokens > 0 && self.mark.begun == mark.begun {
            Self { tokens: self.tokens + tokens, mark: self.mark.older(mark) }
        } else if self.tokens > 0 && self.mark.begun > mark.begun {
            // What was begun earlier is not there any more.
            *self
        } else {
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
    /// Asks for nothing but where a bucket stands.
    pub(super) fn about(bucket: Bucket) -> Self {
        let (back, seen) = Default::default();
        Self { bucket, want: 0, spent: 0, spent_for: 0, back, floor: 0, seen, is_recall: false }
    }

    /// As the script takes it.
    pub(super) fn arguments(&self) -> [u64; 14] {
        let Self { bucket, want, spent, spent_for, back, floor, seen, is_recall } = *self;
        let Version { made, written } = seen;
        let Bucket { interval, per, capacity, refill, .. } = bucket;
        // What is charged may take less than a nanosecond each; nothing else is asked of such a bucket.
        let (interval, spent) = if per > 1 { (1, bucket.room(spent)) } else { (interval, spent) };
        let Back { tokens, mark } = back;
        let refill = match refill {
            Refill::Steady => 0,
            Refill::Calendar(Calendar::Day) => 1,
            Refill::Calendar(Calendar::Month) => 2,
        };
        let most = bucket.most();
        let Mark { begun, gross } = mark;
        let is_recall = u64::from(is_recall);
        [
            interval, capacity, most, refill, want, spent, tokens, begun, gross, floor, is_recall,
            spent_for, made, written,
        ]
    }
}

impl Grant {
    /// Whether it is of a quota of which Redis may not know all that was used.
    pub(super) fn is_of_forgotten_quota(&self) -> bool {
        self.ends_in.is_some() && (self.mark.gross == 0 || self.passed_over > 0)
    }

    /// Nanoseconds since a quota of this period was written last, by Redis's clock.
    pub(super) fn age(&self, calendar: Calendar) -> u64 {
        let written = self.version.written;
        // It was in the period that ends so soon.
        let ends = calendar.period(written / 1_000_000).map_or(0, |(_, seconds)| seconds.end);
        let until_then = (ends * 1_000_000).saturating_sub(written) * 1_000;
        until_then.saturating_sub(self.ends_in.unwrap_or(0))
    }

    /// Numbers of the script's answer for one bucket.
    pub(super) const NUMBERS: usize = 7;

    /// Reads what the script answers for one bucket.
    pub(super) fn read(numbers: &[u64]) -> Option<Self> {
        let [tokens, taken, begun, gross, ends_in, passed_over, written] = *numbers else {
            return None;
        };
        let ends_in = Some(ends_in).filter(|ends_in| *ends_in > 0);
        let made = if ends_in.is_some() { begun } else { 0 };
        let (mark, version) = (Mark { begun, gross }, Version { made, written });
        Some(Self { tokens, taken, mark, ends_in, passed_over, version })
    }
}
