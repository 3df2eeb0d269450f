//! How times are spread: counts in fixed buckets, so that any two histograms add up exactly.
//!
//! Times below 32 us have a bucket each; above, every power of two is cut into 16. The middle of a
//! bucket is within 1/32 of every time in it: what a quantile says is off by 3.2% at most.

use super::varint::{put, take};

/// Halvings of a power of two, as a power of two.
const FINENESS: u32 = 4;
const PARTS: u64 = 1 << FINENESS;

/// Counts by bucket, in the order of buckets; none is zero.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Histogram(Vec<(u16, u64)>);

impl Histogram {
    /// Counts a time in milliseconds. What is no time counts as none at all took.
    pub(crate) fn record(&mut self, ms: f64) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts of floats stop at the ends of the target, and NaN becomes 0"
        )]
        let us = (ms * 1000.0).round() as u64;
        self.count(bucket(us), 1);
    }

    /// Counts all that another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (bucket, count) in &other.0 {
            self.count(*bucket, *count);
        }
    }

    /// The time in milliseconds that this share of all took at most, 0 where nothing was counted.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a rank may be off where more is counted than a float tells apart"
        )]
        let rank = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut below = 0;
        for (bucket, count) in &self.0 {
            below += count;
            if below >= rank {
                return middle(*bucket) / 1000.0;
            }
        }
        0.0
    }

    /// Pairs of numbers: how far on the next bucket is, and its count, each as a varint.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        let mut last = 0;
        for (bucket, count) in &self.0 {
            put(u64::from(bucket - last), &mut bytes);
            put(*count, &mut bytes);
            last = *bucket;
        }
        bytes
    }

    /// `None` for what [`Self::to_bytes`] does not write.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut counts = Vec::with_capacity(bytes.len() / 2);
        let mut last = 0_u16;
        while !bytes.is_empty() {
            last = last.checked_add(take(&mut bytes)?.try_into().ok()?)?;
            counts.push((last, take(&mut bytes)?));
        }
        Some(Self(counts))
    }

    fn count(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    *known = known.saturating_add(count);
                }
            }
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }
}

/// Which bucket a time in microseconds belongs to.
fn bucket(us: u64) -> u16 {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(FINENESS + 1);
    // What is left after the shift is below twice the parts, and the shift below 64.
    u16::try_from(u64::from(shift) * PARTS + (us >> shift)).unwrap_or(u16::MAX)
}

/// The middle of a bucket, in microseconds.
#[allow(clippy::cast_precision_loss, reason = "far finer than a bucket is wide")]
fn middle(bucket: u16) -> f64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * PARTS {
        return bucket as f64;
    }
    let shift = bucket / PARTS - 1;
    let first = PARTS + bucket % PARTS;
    (first as f64 + 0.5) * 2_f64.powi(i32::try_from(shift).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        times.iter().for_each(|ms| histogram.record(*ms));
        histogram
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_thirtysecond_of_the_truth(
            mut times in prop::collection::vec(0.0..1e7, 1..200),
            share in 0.0..1.0,
        ) {
            let said = of(&times).quantile(share);
            times.sort_by(f64::total_cmp);
            let rank = ((times.len() as f64 * share).ceil() as usize).max(1);
            let truth = times[rank - 1];
            // Times are counted in whole microseconds.
            prop_assert!((said - truth).abs() <= truth / 32.0 + 0.001, "{said} {truth}");
        }

        #[test]
        fn parts_add_up_to_the_whole_and_bytes_keep_it(
            some in prop::collection::vec(0.0..1e9, 0..50),
            others in prop::collection::vec(0.0..1e3, 0..50),
        ) {
            let mut sum = of(&some);
            sum.add(&of(&others));
            prop_assert_eq!(&sum, &of(&[some, others].concat()));
            prop_assert_eq!(Histogram::from_bytes(&sum.to_bytes()), Some(sum));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Histogram::from_bytes(&bytes);
        }
    }

    #[test]
    fn what_is_no_time_breaks_nothing() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
            let histogram = of(&[odd]);
            assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Some(histogram), "{odd}");
        }
        assert!(Histogram::default().quantile(0.5).abs() < f64::EPSILON);
    }
}
