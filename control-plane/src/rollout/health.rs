//! How the rings of a rollout are, from what their nodes told.

use fastgate::{
    admin::v1::{Node, NodeHealth},
    durations::{Counts, quantile_ms},
    model::{Labels, Member, RolloutPolicy},
};

use crate::domain::Rollout;

/// One ring.
#[derive(Default)]
pub(crate) struct RingHealth<'a> {
    /// Its nodes, away ones included.
    pub(crate) nodes: Vec<&'a Node>,
    /// Under the change.
    pub(crate) now: Requests,
    /// Under what its nodes had before.
    pub(crate) before: Requests,
}

/// What requests of several nodes came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Requests {
    pub(crate) count: u64,
    server_errors: u64,
    durations: Counts,
}

/// How the rings are, in their order.
pub(crate) fn of_rings<'a>(rollout: &Rollout, nodes: &'a [Node]) -> Vec<RingHealth<'a>> {
    let rings = rollout.policy.rings.iter().map(|_| RingHealth::default());
    let mut rings: Vec<_> = rings.collect();
    for node in nodes {
        let labels = Labels::parse(node.labels.iter().map(String::as_str)).unwrap_or_default();
        let ring = rollout.policy.ring_of(&Member::new(&node.node_id, labels));
        let Some(ring) = rings.get_mut(ring) else { continue };
        ring.nodes.push(node);
        let now = node.health.as_ref().filter(|it| it.config_revision == rollout.at.target);
        if let Some(now) = now.filter(|_| node.connected) {
            ring.now.add(now);
            node.health_before.iter().for_each(|before| ring.before.add(before));
        }
    }
    rings
}

/// Whether a node has the change, and has told how it is with it.
pub(crate) fn has(node: &Node, target: u64) -> bool {
    // One that tells nothing of its requests is too old to.
    let told = node.health.as_ref().is_none_or(|health| health.config_revision >= target);
    node.connected && node.config_revision >= target && told
}

impl RingHealth<'_> {
    /// What is worse than it may be, and than it was before.
    pub(super) fn fault(&self, policy: &RolloutPolicy) -> Option<String> {
        let says = |requests: &Requests| requests.count >= policy.min_requests.max(1);
        if !says(&self.now) {
            return None;
        }
        let before = Some(&self.before).filter(|before| says(before));
        let (rate, rate_before) = (self.now.error_rate(), before.map(Requests::error_rate));
        if rate > policy.max_error_rate && rate_before.is_none_or(|before| rate > before) {
            let (errors, count) = (self.now.server_errors, self.now.count);
            return Some(format!(
                "{errors} of {count} requests were answered with 5xx, {:.1} %",
                rate * 100.0
            ));
        }
        let (p99, p99_before) = (self.now.p99_ms()?, before.and_then(Requests::p99_ms));
        if let Some(most) = policy.max_p99_ms
            && p99 > most
            && p99_before.is_none_or(|before| p99 > before)
        {
            return Some(format!("99 % of requests took up to {p99:.0} ms, over {most} ms"));
        }
        if let (Some(ratio), Some(before)) = (policy.max_p99_ratio, p99_before)
            && p99 > before * ratio
        {
            return Some(format!(
                "99 % of requests took up to {p99:.0} ms, before the change {before:.0} ms"
            ));
        }
        None
    }
}

impl Requests {
    pub(crate) fn error_rate(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.server_errors as f64 / self.count as f64 }
    }

    pub(crate) fn p99_ms(&self) -> Option<f64> {
        quantile_ms(&self.durations, 0.99)
    }

    fn add(&mut self, health: &NodeHealth) {
        self.count = self.count.saturating_add(health.requests);
        self.server_errors = self.server_errors.saturating_add(health.server_errors);
        for (sum, count) in self.durations.iter_mut().zip(&health.durations) {
            *sum = sum.saturating_add(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1;

    use super::*;

    fn requests(count: u64, server_errors: u64, bucket: usize) -> Requests {
        let mut durations = Counts::default();
        durations[bucket] = count;
        Requests { count, server_errors, durations }
    }

    #[test]
    fn what_is_worse_than_it_may_be_and_than_before_is_a_fault() {
        let ring = v1::Ring { name: "rest".into(), ..v1::Ring::default() };
        let wire = v1::RolloutPolicy {
            rings: vec![ring],
            max_error_rate: Some(0.1),
            max_p99_ms: Some(100.0),
            max_p99_ratio: Some(2.0),
            min_requests: Some(10),
            ..v1::RolloutPolicy::default()
        };
        let policy = RolloutPolicy::parse(&wire).expect("a policy");
        let none = Requests::default();
        for (now, before, told) in [
            (none, none, None),
            // Too few to say anything.
            (requests(9, 9, 2), none, None),
            (requests(10, 1, 2), none, None),
            (requests(10, 2, 2), none, Some("2 of 10 requests were answered with 5xx, 20.0 %")),
            (requests(20, 4, 2), requests(5, 5, 2), Some("4 of 20 requests")),
            // As bad as before is not the fault of the change.
            (requests(20, 4, 2), requests(20, 4, 2), None),
            (requests(20, 5, 2), requests(20, 4, 2), Some("5 of 20")),
            // 99 ms, 247.75 ms.
            (requests(100, 0, 8), none, None),
            (requests(100, 0, 9), none, Some("99 % of requests took up to 24")),
            (requests(100, 0, 9), requests(100, 0, 9), None),
            // 1 ms, 2.5 ms, 5 ms.
            (requests(100, 0, 3), requests(100, 0, 3), None),
            (
                requests(100, 0, 3),
                requests(100, 0, 2),
                Some("99 % of requests took up to 2 ms, before"),
            ),
            (requests(100, 0, 3), requests(9, 0, 2), None),
        ] {
            let fault = RingHealth { nodes: Vec::new(), now, before }.fault(&policy);
            let starts = |fault: &String| told.is_some_and(|told| fault.starts_with(told));
            assert!(fault.as_ref().map_or(told.is_none(), starts), "{now:?} {before:?}: {fault:?}");
        }
    }
}
