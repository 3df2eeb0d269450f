//! How long requests took, as counts that add up: nodes count them, the control plane judges by them.

/// Upper bounds of the buckets, in seconds. What took longer than the last is in one more bucket.
pub const BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts of requests: one for each bound, then the rest.
pub type Counts = [u64; BOUNDS.len() + 1];

/// The time in milliseconds that this part of the requests stayed below, evened out within a bucket; `None`
/// where there are none. What is beyond all bounds took as long as the last one.
#[must_use]
pub fn quantile_ms(counts: &Counts, part: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let wanted = (all as f64 * part).max(1.0);
    let mut below = 0.0;
    let mut lower = 0.0;
    for (count, bound) in counts.iter().zip(BOUNDS) {
        let within = *count as f64;
        if below + within >= wanted && within > 0.0 {
            return Some((lower + (bound - lower) * (wanted - below) / within) * 1000.0);
        }
        below += within;
        lower = bound;
    }
    (all > 0).then_some(lower * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_request() {
        let counts = |filled: &[(usize, u64)]| {
            let mut counts = Counts::default();
            for (at, count) in filled {
                counts[*at] = *count;
            }
            counts
        };
        for (filled, p99) in [
            (&[][..], None),
            (&[(2, 1)], Some(1.0)),
            (&[(2, 100)], Some(0.995)),
            // The slowest of a hundred is not among 99 of them; of 50 it is.
            (&[(2, 99), (9, 1)], Some(1.0)),
            (&[(2, 49), (9, 1)], Some(175.0)),
            (&[(14, 5)], Some(10_000.0)),
        ] {
            let found = quantile_ms(&counts(filled), 0.99);
            assert_eq!(
                found.map(|ms| (ms * 1e6).round()),
                p99.map(|ms: f64| ms * 1e6),
                "{filled:?}"
            );
        }
    }
}
