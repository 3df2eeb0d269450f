//! How changes of the config reach nodes: rings, and when to go from one to the next.

use std::{collections::HashSet, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{Id, Labels, Violations, bounds, check};
use crate::admin::v1;

/// How changes of the config of an environment reach its nodes.
#[derive(Clone, PartialEq, Debug)]
pub struct RolloutPolicy {
    /// At least one. The last takes the nodes that no other takes.
    pub rings: Vec<Ring>,
    /// How long a ring is watched.
    pub hold: Duration,
    /// The share of requests that may be answered with 5xx.
    pub max_error_rate: f64,
    /// How long 99 of 100 requests may take, in milliseconds.
    pub max_p99_ms: Option<f64>,
    /// How many times as long as before.
    pub max_p99_ratio: Option<f64>,
    /// Fewer requests say nothing.
    pub min_requests: u64,
}

/// Some of the nodes of an environment.
#[derive(Clone, PartialEq, Debug)]
pub struct Ring {
    /// What people call it.
    pub name: Id,
    /// Its nodes have all of these.
    pub labels: Labels,
    /// So many of those are in it, by their place; `None`: all.
    pub share: Option<f64>,
}

/// What decides which ring a node is in.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    labels: Labels,
    /// Where its id leads to, from 0 to 1: the same for ever.
    place: f64,
}

impl Member {
    /// A node of this id, with these labels.
    #[must_use]
    pub fn new(node_id: &str, labels: Labels) -> Self {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(node_id));
        Self { labels, place: f64::from(u32::from_be_bytes([a, b, c, d])) / 2_f64.powi(32) }
    }
}

impl RolloutPolicy {
    const HOLD: Duration = Duration::from_secs(60);
    const MAX_ERROR_RATE: f64 = 0.05;
    const MIN_REQUESTS: i64 = 20;

    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::RolloutPolicy) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let rings = parse_rings(&wire.rings, &mut faults);
        let hold = faults.take("hold", check::seconds(wire.hold), None);
        let error_rate = wire.max_error_rate.unwrap_or(Self::MAX_ERROR_RATE);
        if !(0.0..=1.0).contains(&error_rate) {
            faults.add("max_error_rate", format!("is {error_rate}: give a share from 0 to 1"));
        }
        for (field, value, least) in
            [("max_p99_ms", wire.max_p99_ms, 0.0), ("max_p99_ratio", wire.max_p99_ratio, 1.0)]
        {
            if let Some(value) = value.filter(|value| !(*value > least && value.is_finite())) {
                faults.add(field, format!("is {value}: give a number above {least}"));
            }
        }
        let min_requests = wire.min_requests.unwrap_or(Self::MIN_REQUESTS);
        let min_requests = u64::try_from(min_requests)
            .map_err(|_| format!("is {min_requests}: give a number from 0 up"));
        let min_requests = faults.take("min_requests", min_requests, 0);
        faults.or(Self {
            rings,
            hold: hold.unwrap_or(Self::HOLD),
            max_error_rate: error_rate,
            max_p99_ms: wire.max_p99_ms,
            max_p99_ratio: wire.max_p99_ratio,
            min_requests,
        })
    }

    /// The number of the ring that a node is in.
    #[must_use]
    pub fn ring_of(&self, member: &Member) -> usize {
        let takes = |ring: &Ring| {
            let has_share = ring.share.is_none_or(|share| member.place < share);
            has_share && member.labels.contains(&ring.labels)
        };
        self.rings.iter().position(takes).unwrap_or(self.last_ring())
    }

    /// The number of the last ring.
    #[must_use]
    pub fn last_ring(&self) -> usize {
        self.rings.len().saturating_sub(1)
    }
}

fn parse_rings(wire: &[v1::Ring], faults: &mut Violations) -> Vec<Ring> {
    if wire.is_empty() {
        faults.add("rings", "are missing: give at least one, the last of them without labels");
    }
    if wire.len() > bounds::RINGS {
        faults.add("rings", format!("are more than {}", bounds::RINGS));
    }
    let mut names = HashSet::new();
    let mut rings = Vec::with_capacity(wire.len());
    for (at, v1::Ring { name, labels, share }) in wire.iter().enumerate() {
        let field = |name: &str| format!("rings[{at}].{name}");
        let name = faults.take(&field("name"), Id::parse(name), Id::unknown());
        let labels = Labels::parse(labels.iter().map(String::as_str));
        let labels_are_read = labels.is_ok();
        let labels = faults.take(&field("labels"), labels, Labels::default());
        if !names.insert(name.clone()) && name != Id::unknown() {
            faults.add(
                field("name"),
                format!("is '{name}', as that of another ring: choose another"),
            );
        }
        if let Some(share) = share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            faults.add(field("share"), format!("is {share}: give a share above 0 and at most 1"));
        }
        let is_last = at + 1 == wire.len();
        let takes_all = labels.is_empty() && share.is_none();
        if is_last && !takes_all && labels_are_read {
            let told =
                "are given, or a share: the last ring takes all other nodes, so add one without";
            faults.add(field("labels"), told);
        }
        if !is_last && takes_all && labels_are_read {
            faults.add(field("labels"), "are missing: only the last ring takes all other nodes");
        }
        rings.push(Ring { name, labels, share: *share });
    }
    rings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(name: &str, labels: &[&str]) -> v1::Ring {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        v1::Ring { name: name.into(), labels, share: None }
    }

    fn policy() -> v1::RolloutPolicy {
        let rings =
            vec![ring("canary", &["tier=canary"]), ring("eu", &["zone=eu"]), ring("rest", &[])];
        v1::RolloutPolicy { rings, ..v1::RolloutPolicy::default() }
    }

    #[test]
    fn a_node_is_in_the_first_ring_whose_labels_it_has() {
        let policy = RolloutPolicy::parse(&policy()).expect("a policy");
        assert_eq!((policy.hold, policy.min_requests), (Duration::from_secs(60), 20));
        for (labels, ring) in [
            (&["tier=canary", "zone=eu"][..], 0),
            (&["zone=eu", "rack=7"], 1),
            (&["zone=us"], 2),
            (&[], 2),
        ] {
            let labels = Labels::parse(labels.iter().copied()).expect("labels");
            assert_eq!(policy.ring_of(&Member::new("n1", labels.clone())), ring, "{labels}");
        }
    }

    #[test]
    fn a_share_takes_so_many_of_many_nodes_and_always_the_same() {
        let mut wire = policy();
        wire.rings[0] = v1::Ring { share: Some(0.1), ..ring("few", &[]) };
        wire.rings[1] = v1::Ring { share: Some(0.5), ..ring("half", &["zone=eu"]) };
        let policy = RolloutPolicy::parse(&wire).expect("a policy");
        let mut counts = [0; 3];
        for n in 0..10_000 {
            let labels = Labels::parse(["zone=eu"]).expect("a label");
            counts[policy.ring_of(&Member::new(&format!("node-{n}"), labels))] += 1;
        }
        let [few, half, rest] = counts;
        assert!((900..1100).contains(&few), "{counts:?}");
        assert!((3800..4200).contains(&half) && (4800..5200).contains(&rest), "{counts:?}");
        let ring_of = |id: &str| policy.ring_of(&Member::new(id, Labels::default()));
        // These must not change: nodes of two versions of this would be in two rings.
        assert_eq!(["node-1", "node-2", "node-3"].map(ring_of), [2, 0, 2]);
    }

    #[test]
    fn each_fault_is_told_with_its_field() {
        type Spoil = fn(&mut v1::RolloutPolicy);
        let spoilt = |spoil: Spoil| {
            let mut wire = policy();
            spoil(&mut wire);
            RolloutPolicy::parse(&wire).expect_err("a fault").to_string()
        };
        let cases: [(Spoil, &str); 14] = [
            (|p| p.rings.clear(), "rings: are missing"),
            (|p| p.rings = vec![ring("a", &["x=1"]); 17], "rings: are more than 16"),
            (|p| p.rings[0].name = "Canary".into(), "rings[0].name: must be 1 to 63"),
            (|p| p.rings[1].name = "canary".into(), "rings[1].name: is 'canary', as that of"),
            (|p| p.rings[1].labels.clear(), "rings[1].labels: are missing: only the last"),
            (|p| p.rings[2].labels = vec!["a=b".into()], "rings[2].labels: are given, or a share"),
            (|p| p.rings[2].share = Some(0.5), "rings[2].labels: are given, or a share"),
            (|p| p.rings[0].share = Some(0.0), "rings[0].share: is 0: give a share above 0"),
            (
                |p| p.rings[0].labels = vec!["a".into()],
                "rings[0].labels: has 'a', which is no label",
            ),
            (|p| p.hold = Some(0.0), "hold: is 0: give seconds above 0"),
            (|p| p.max_error_rate = Some(1.5), "max_error_rate: is 1.5: give a share"),
            (|p| p.max_p99_ms = Some(f64::NAN), "max_p99_ms: is NaN: give a number above 0"),
            (|p| p.max_p99_ratio = Some(0.5), "max_p99_ratio: is 0.5: give a number above 1"),
            (|p| p.min_requests = Some(-1), "min_requests: is -1: give a number from 0 up"),
        ];
        for (spoil, told) in cases {
            let found = spoilt(spoil);
            assert!(found.starts_with(told), "{found}");
        }
    }
}
