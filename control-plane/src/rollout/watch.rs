//! When a rollout goes on, and when it stops: decided from what its nodes told, without I/O.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use fastgate::admin::v1::Node;
use tokio::time::Instant;

use super::health::{RingHealth, has, of_rings};
use crate::domain::{Rollout, RolloutPosition, RolloutState};

/// How long a node may be away: streams break and come back.
const AWAY: Duration = Duration::from_secs(5);

/// A node that goes later than this after the change did not go because of it.
const SOON: Duration = Duration::from_secs(30);

/// One in so many nodes of a ring may go for reasons of its own: of many, some always do.
const LOST: usize = 10;

/// What has been seen of one rollout since it came to where it is, or since this control plane watches it. One
/// that begins to watch in the middle begins the time of the ring anew.
pub(super) struct Watch {
    at: RolloutPosition,
    began: SystemTime,
    /// Since when all nodes of the ring have the change.
    complete: Option<Instant>,
    /// Nodes of the ring that were there, by id.
    seen: HashMap<String, Seen>,
}

/// A node that was there.
struct Seen {
    boot_id: String,
    since: Instant,
    away: Option<Instant>,
    /// Whether it went soon, for longer than a stream takes to come back, or died and came back.
    is_lost: bool,
}

/// What is to become of a rollout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Wait,
    /// The ring did well.
    Go,
    /// Why no node is to have the change.
    Stop(String),
}

impl Watch {
    pub(super) fn new(at: RolloutPosition) -> Self {
        Self { at, began: SystemTime::now(), complete: None, seen: HashMap::new() }
    }

    /// Looks at the nodes as they are now.
    pub(super) fn look(&mut self, rollout: &Rollout, nodes: &[Node], now: Instant) -> Verdict {
        if (self.at.target, self.at.ring) != (rollout.at.target, rollout.at.ring) {
            *self = Self::new(rollout.at);
        }
        let rings = of_rings(rollout, nodes);
        let reached = rings.iter().take(rollout.at.ring + 1);
        for (at, ring) in reached.enumerate() {
            let fault = refusal(ring, rollout.at.target).or_else(|| ring.fault(&rollout.policy));
            if let Some(fault) = fault {
                return Verdict::Stop(format!("ring {}: {fault}", rollout.ring_name(at)));
            }
        }
        let Some(ring) = rings.get(rollout.at.ring) else { return Verdict::Wait };
        self.see(ring, now);
        if let Some(fault) = self.lost(ring.nodes.len()) {
            let name = rollout.ring_name(rollout.at.ring);
            return Verdict::Stop(format!("ring {name}: {fault}"));
        }
        let mut connected = ring.nodes.iter().filter(|node| node.connected);
        // A ring without nodes waits as long as any other: they may be on their way.
        let is_complete = connected.all(|node| has(node, rollout.at.target))
            && self.seen.values().all(|seen| seen.away.is_none() || seen.is_lost);
        if !is_complete {
            self.complete = None;
            return Verdict::Wait;
        }
        let since = *self.complete.get_or_insert(now);
        let is_over = now.duration_since(since) >= rollout.policy.hold;
        if is_over && rollout.at.state == RolloutState::Running {
            return Verdict::Go;
        }
        Verdict::Wait
    }

    /// Notes which nodes of the ring are there, which are away, and which came back as others.
    fn see(&mut self, ring: &RingHealth<'_>, now: Instant) {
        let is_there = |node: &&Node| node.connected || self.took_and_went(node);
        let there: Vec<_> = ring.nodes.iter().copied().filter(is_there).collect();
        for node in there {
            let away = (!node.connected).then_some(now);
            let fresh = || Seen { boot_id: node.boot_id.clone(), since: now, away, is_lost: false };
            let seen = self.seen.entry(node.node_id.clone()).or_insert_with(fresh);
            if !node.connected {
                continue;
            }
            if seen.boot_id == node.boot_id {
                seen.away = None;
            } else {
                let is_lost = seen.is_lost || now.duration_since(seen.since) <= SOON;
                *seen = Seen { is_lost, ..fresh() };
            }
        }
        for (node_id, seen) in &mut self.seen {
            if ring.nodes.iter().any(|node| node.connected && node.node_id == *node_id) {
                continue;
            }
            let away = *seen.away.get_or_insert(now);
            seen.is_lost |=
                now.duration_since(away) >= AWAY && away.duration_since(seen.since) <= SOON;
        }
        // One that went later is none of this ring any more.
        self.seen.retain(|_, seen| {
            seen.is_lost || seen.away.is_none_or(|away| now.duration_since(away) < AWAY)
        });
    }

    /// Whether a node took the change and went before anybody saw it there.
    fn took_and_went(&self, node: &Node) -> bool {
        let heard = node.last_seen_at.and_then(|at| SystemTime::try_from(at).ok());
        node.config_revision >= self.at.target && heard.is_some_and(|at| at > self.began)
    }

    /// Whether more nodes went than do anyway.
    fn lost(&self, nodes: usize) -> Option<String> {
        let lost = || self.seen.iter().filter(|(_, seen)| seen.is_lost).map(|(node_id, _)| node_id);
        let first = lost().min()?;
        let count = lost().count();
        (count * LOST >= nodes)
            .then(|| format!("node {first} went soon after the change: {count} of {nodes} did"))
    }
}

/// What a node of the ring says is wrong with the change.
fn refusal(ring: &RingHealth<'_>, target: u64) -> Option<String> {
    let refuses = |node: &&&Node| {
        let refusal = node.refusal.as_ref().filter(|it| it.namespace == "config");
        node.connected && refusal.is_some_and(|it| it.revision >= target)
    };
    let node = ring.nodes.iter().find(refuses)?;
    Some(format!("node {} refuses it: {}", node.node_id, node.last_nack))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fastgate::{
        admin::v1::{self, NodeHealth, NodeRefusal},
        digest::Digest,
        model::RolloutPolicy,
    };

    use super::*;

    const HOLD: Duration = Duration::from_secs(10);
    const TARGET: u64 = 7;

    fn rollout(ring: usize, state: RolloutState) -> Rollout {
        let ring_of = |name: &str, labels: &[&str]| v1::Ring {
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            share: None,
        };
        let rings = vec![ring_of("canary", &["tier=canary"]), ring_of("rest", &[])];
        let hold = Some(HOLD.as_secs_f64());
        let wire = v1::RolloutPolicy { rings, hold, ..v1::RolloutPolicy::default() };
        Rollout {
            base: TARGET - 1,
            base_digest: Digest::default(),
            policy: RolloutPolicy::parse(&wire).expect("a policy"),
            at: RolloutPosition { target: TARGET, ring, state },
            reason: String::new(),
            started_at: SystemTime::UNIX_EPOCH,
            moved_at: SystemTime::UNIX_EPOCH,
        }
    }

    fn node(node_id: &str, config_revision: u64) -> Node {
        let tier = if node_id.starts_with('c') { "canary" } else { "other" };
        Node {
            node_id: node_id.into(),
            boot_id: "boot-1".into(),
            connected: true,
            config_revision,
            labels: vec![format!("tier={tier}")],
            health: Some(NodeHealth { config_revision, ..NodeHealth::default() }),
            ..Node::default()
        }
    }

    /// Looks at these nodes one after the other, so many seconds after the beginning.
    fn watched(rollout: &Rollout, looks: &[(u64, Vec<Node>)]) -> Verdict {
        let begun = Instant::now();
        let mut watch = Watch::new(rollout.at);
        let mut verdict = Verdict::Wait;
        for (seconds, nodes) in looks {
            assert_eq!(verdict, Verdict::Wait, "before second {seconds}");
            verdict = watch.look(rollout, nodes, begun + Duration::from_secs(*seconds));
        }
        verdict
    }

    #[test]
    fn a_ring_is_held_from_when_all_its_nodes_have_the_change() {
        let running = rollout(0, RolloutState::Running);
        let both = |one, other| vec![node("c1", one), node("c2", other), node("r1", 6)];
        for (looks, verdict) in [
            (vec![(0, both(7, 7)), (9, both(7, 7))], Verdict::Wait),
            (vec![(0, both(7, 7)), (10, both(7, 7))], Verdict::Go),
            (vec![(0, both(7, 6)), (10, both(7, 6)), (99, both(7, 6))], Verdict::Wait),
            (vec![(0, both(7, 6)), (5, both(7, 7)), (10, both(7, 7))], Verdict::Wait),
            (vec![(0, both(7, 6)), (5, both(7, 7)), (15, both(7, 7))], Verdict::Go),
            // One that joins is waited for.
            (vec![(0, vec![node("c1", 7)]), (10, both(7, 6))], Verdict::Wait),
            // Where a ring has no node, one may be on its way.
            (vec![(0, vec![node("r1", 6)]), (9, vec![node("r1", 6)])], Verdict::Wait),
            (vec![(0, vec![node("r1", 6)]), (10, vec![node("r1", 6)])], Verdict::Go),
        ] {
            assert_eq!(watched(&running, &looks), verdict, "{:?}", looks.last());
        }
        let paused = rollout(0, RolloutState::Paused);
        assert_eq!(watched(&paused, &[(0, both(7, 7)), (99, both(7, 7))]), Verdict::Wait);
    }

    #[test]
    fn a_node_counts_once_it_has_told_how_it_is_with_the_change() {
        let silent = Node {
            health: Some(NodeHealth { config_revision: 6, ..NodeHealth::default() }),
            ..node("c1", 7)
        };
        let too_old = Node { health: None, ..node("c1", 7) };
        let running = rollout(0, RolloutState::Running);
        let look = |node: &Node| vec![(0, vec![node.clone()]), (10, vec![node.clone()])];
        assert_eq!(watched(&running, &look(&silent)), Verdict::Wait);
        assert_eq!(watched(&running, &look(&too_old)), Verdict::Go);
    }

    #[test]
    fn a_fault_in_any_ring_that_was_reached_stops_it() {
        let failing = |name: &str| Node {
            health: Some(NodeHealth {
                config_revision: TARGET,
                requests: 20,
                server_errors: 20,
                ..NodeHealth::default()
            }),
            ..node(name, TARGET)
        };
        let refusing = |name: &str, revision| Node {
            refusal: Some(NodeRefusal {
                namespace: "config".into(),
                revision,
                ..NodeRefusal::default()
            }),
            last_nack: "revision 7: route a: path: is odd".into(),
            ..node(name, 6)
        };
        for (ring, state, nodes, stopped) in [
            (0, RolloutState::Running, vec![failing("c1")], Some("ring canary: 20 of 20")),
            (0, RolloutState::Paused, vec![failing("c1")], Some("ring canary: 20 of 20")),
            (1, RolloutState::Running, vec![failing("c1")], Some("ring canary: 20 of 20")),
            (0, RolloutState::Running, vec![failing("r1")], None),
            (
                0,
                RolloutState::Running,
                vec![refusing("c1", 7)],
                Some("ring canary: node c1 refuses"),
            ),
            (0, RolloutState::Running, vec![refusing("c1", 5)], None),
            (0, RolloutState::Running, vec![refusing("r1", 7)], None),
        ] {
            let verdict = watched(&rollout(ring, state), &[(0, nodes)]);
            match stopped {
                Some(told) => {
                    assert!(
                        matches!(&verdict, Verdict::Stop(why) if why.starts_with(told)),
                        "{verdict:?}"
                    );
                }
                None => assert_eq!(verdict, Verdict::Wait),
            }
        }
    }

    #[test]
    fn nodes_that_go_or_start_anew_soon_after_the_change_stop_it() {
        let running = rollout(0, RolloutState::Running);
        let later = SystemTime::now() + Duration::from_secs(3600);
        let away = |revision| Node {
            connected: false,
            last_seen_at: Some(SystemTime::UNIX_EPOCH.into()),
            ..node("c1", revision)
        };
        let anew = |revision| Node { boot_id: "boot-2".into(), ..node("c1", revision) };
        let at = |seconds, node| (seconds, vec![node]);
        let went = "ring canary: node c1 went soon after the change: 1 of 1 did";
        let stop = || Verdict::Stop(went.into());
        for (what, looks, verdict) in [
            ("not long", vec![at(0, node("c1", 7)), at(1, away(7)), at(5, away(7))], Verdict::Wait),
            ("long", vec![at(0, node("c1", 7)), at(1, away(7)), at(6, away(7))], stop()),
            (
                "gone",
                vec![at(0, node("c1", 7)), (1, vec![]), (6, vec![node("r1", 6)])],
                Verdict::Stop(went.replace("1 of 1", "1 of 0")),
            ),
            ("anew", vec![at(0, node("c1", 7)), at(1, anew(7))], stop()),
            ("anew with an earlier one", vec![at(0, node("c1", 6)), at(1, anew(5))], stop()),
            ("anew, later", vec![at(0, node("c1", 6)), at(31, anew(6))], Verdict::Wait),
            (
                "its stream broke, so the time begins anew",
                vec![
                    at(0, node("c1", 7)),
                    at(4, away(7)),
                    at(8, node("c1", 7)),
                    at(12, node("c1", 7)),
                ],
                Verdict::Wait,
            ),
            ("away before", vec![at(0, away(7)), at(9, away(7))], Verdict::Wait),
            (
                "took it and went between two looks",
                vec![
                    at(0, node("c2", 6)),
                    (1, vec![node("c2", 7), Node { last_seen_at: Some(later.into()), ..away(7) }]),
                    (6, vec![node("c2", 7), away(7)]),
                ],
                Verdict::Stop(went.replace("1 of 1", "1 of 2")),
            ),
        ] {
            assert_eq!(watched(&running, &looks), verdict, "{what}");
        }
    }

    #[test]
    fn of_many_nodes_some_go_anyway() {
        let running = rollout(0, RolloutState::Running);
        let nodes = |gone: usize| -> Vec<Node> {
            let node = |n: usize| Node { connected: n >= gone, ..node(&format!("c{n:02}"), 7) };
            (0..20).map(node).collect()
        };
        for (gone, verdict) in [
            (1, Verdict::Go),
            (
                2,
                Verdict::Stop(
                    "ring canary: node c00 went soon after the change: 2 of 20 did".into(),
                ),
            ),
        ] {
            let looks = [(0, nodes(0)), (1, nodes(gone)), (6, nodes(gone)), (16, nodes(gone))];
            let looks = if gone == 2 { &looks[..3] } else { &looks[..] };
            assert_eq!(watched(&running, looks), verdict, "{gone}");
        }
    }
}
