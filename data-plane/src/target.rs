//! The targets of upstreams, and which of them a request goes to.

use std::{sync::Arc, time::Duration};

use fastgate::model::{Id, Route, Target};
use http::HeaderValue;

use crate::persistent::Persistent;

/// Named upstreams.
pub(crate) type Upstreams = Persistent<Id, Arc<TargetSet>>;

/// The targets of an upstream, ready to be picked from.
pub(crate) struct TargetSet {
    targets: Box<[Arc<ReadyTarget>]>,
    /// The sum of all weights; the model sees to it that it is above 0.
    total_weight: u64,
    /// How long to wait for a connection to one of them.
    pub(crate) connect_timeout: Duration,
    /// The timeout of routes without one.
    pub(crate) timeout: Duration,
}

/// A target with everything of it that a request needs, made once.
pub(crate) struct ReadyTarget {
    /// As it was configured.
    pub(crate) target: Target,
    /// Its URL as it was written, for the audit log.
    pub(crate) url: Arc<str>,
    /// `host:port`, which names its connection pool.
    pub(crate) authority: Box<str>,
    /// The `Host` header it is sent.
    pub(crate) host: HeaderValue,
}

impl TargetSet {
    /// Makes a set; targets without weight take part in nothing.
    ///
    /// # Errors
    /// The index of a target whose host no `Host` header can hold.
    pub(crate) fn new(targets: &[Target], connect_timeout: Duration) -> Result<Self, usize> {
        let mut ready = Vec::with_capacity(targets.len());
        for (at, target) in targets.iter().enumerate() {
            if target.weight > 0 {
                ready.push(Arc::new(ReadyTarget::new(target).ok_or(at)?));
            }
        }
        let total_weight = ready.iter().map(|ready| u64::from(ready.target.weight)).sum();
        let timeout = Route::default_timeout(targets);
        Ok(Self { targets: ready.into(), total_weight, connect_timeout, timeout })
    }

    /// A target by weight, but none of `tried` while there is another. `random` is any number.
    pub(crate) fn pick(
        &self,
        random: u64,
        tried: &[Arc<ReadyTarget>],
    ) -> Option<&Arc<ReadyTarget>> {
        let is_fresh = |ready: &Arc<ReadyTarget>| !tried.iter().any(|t| Arc::ptr_eq(t, ready));
        let fresh_weight = match tried {
            [] => self.total_weight,
            _ => self.targets.iter().filter(|r| is_fresh(r)).map(|r| r.weight()).sum(),
        };
        if fresh_weight == 0 {
            return pick_from(self.targets.iter(), self.total_weight, random);
        }
        pick_from(self.targets.iter().filter(|r| is_fresh(r)), fresh_weight, random)
    }

    /// Its targets, each with how many of all requests it gets: 0 to 1.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&ReadyTarget, f64)> {
        let total = self.total_weight as f64;
        self.targets.iter().map(move |ready| (&**ready, ready.weight() as f64 / total))
    }
}

impl ReadyTarget {
    fn new(target: &Target) -> Option<Self> {
        let (host, port) = (target.url.host(), target.url.port());
        let host_header = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
        Some(Self {
            target: target.clone(),
            url: target.url.as_str().into(),
            authority: format!("{host}:{port}").into(),
            host: HeaderValue::from_str(&host_header).ok()?,
        })
    }

    fn weight(&self) -> u64 {
        u64::from(self.target.weight)
    }
}

/// The target whose share of `0..total` a number falls into.
fn pick_from<'a>(
    targets: impl Iterator<Item = &'a Arc<ReadyTarget>>,
    total: u64,
    random: u64,
) -> Option<&'a Arc<ReadyTarget>> {
    let mut at = random.checked_rem(total)?;
    for ready in targets {
        match at.checked_sub(ready.weight()) {
            Some(rest) => at = rest,
            None => return Some(ready),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastgate::model::TargetUrl;

    fn set(weights: &[u32]) -> TargetSet {
        let targets: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Target {
                url: TargetUrl::parse(&format!("http://10.0.0.{at}:80")).expect("a url"),
                weight: *weight,
                timeout: None,
            })
            .collect();
        TargetSet::new(&targets, Duration::from_secs(1)).expect("valid")
    }

    #[test]
    fn shares_follow_weights_exactly_over_the_whole_range() {
        let set = set(&[70, 30, 0]);
        let mut counts = [0; 2];
        for random in 0..100 {
            let picked = set.pick(random, &[]).expect("a target");
            counts[usize::from(&*picked.authority == "10.0.0.1:80")] += 1;
        }
        assert_eq!(counts, [70, 30]);
    }

    #[test]
    fn routes_without_a_timeout_get_the_longest_of_the_targets() {
        let mut slow = set(&[1]).targets[0].target.clone();
        slow.timeout = Some(Duration::from_secs(45));
        let set = TargetSet::new(&[slow], Duration::from_secs(1)).expect("valid");
        assert_eq!(set.timeout, Duration::from_secs(45));
    }

    #[test]
    fn a_tried_target_is_picked_again_only_when_none_is_left() {
        let set = set(&[70, 30]);
        let first = set.pick(0, &[]).expect("a target").clone();
        for random in 0..100 {
            let other = set.pick(random, std::slice::from_ref(&first)).expect("a target");
            assert!(!Arc::ptr_eq(other, &first));
        }
        let both: Vec<_> = [0, 99].map(|r| set.pick(r, &[]).expect("a target").clone()).into();
        assert!(set.pick(7, &both).is_some());
    }
}
