//! What befalls a simulation, and how it ends.

use std::{collections::BTreeMap, time::Duration};

use super::world::{LATENCY, NODES, REPLICAS, World, node_name, replica_name};

/// A link this slow still counts as one that messages get through: a revocation may have to wait for the
/// answer to the step before.
const SLOW: u64 = 200;

/// Turmoil loses bytes for good where TCP sends them again: a stream that lost some is over. A partition lasts longer
/// than a node needs to notice (`SILENCE`); shorter ones are holds, which lose nothing.
const PARTITION: [u64; 2] = [11_000, 20_000];

/// After its kill, until a node has lived long enough that the next is not taken for a death of its config.
const SPARED: Duration = Duration::from_secs(15);

/// Those under way. Nothing has two at a time.
#[derive(Default, Debug)]
pub(super) struct Troubles {
    links: BTreeMap<(usize, usize), (Harm, Duration)>,
    replicas: BTreeMap<usize, (Fate, Duration)>,
    /// Nodes that are down.
    killed: BTreeMap<usize, Duration>,
    spared: BTreeMap<usize, Duration>,
    /// When all of them will have ended.
    pub(super) end: Duration,
    /// Since when messages have got through again.
    cleared: BTreeMap<(usize, usize), Duration>,
}

/// What happens to a link.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// All messages are lost.
    Partition,
    /// They wait, and come all at once.
    Hold,
    /// Each takes that long.
    Slow(Duration),
    /// Each takes up to that long, as with bytes that are lost and sent again: later ones overtake it.
    Lossy(Duration),
}

/// What happens to a control plane.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It can't read the store.
    Blind,
    /// It is killed, and started again.
    Down,
    /// It says that it leaves, then it does.
    Leaving,
}

impl Harm {
    /// How long messages are under way, if they come at all.
    fn latency(self) -> Option<Duration> {
        match self {
            Self::Partition | Self::Hold => None,
            Self::Slow(latency) | Self::Lossy(latency) => Some(latency),
        }
    }
}

impl Troubles {
    /// Since when messages have got through in time between the two; `None`: they don't.
    pub(super) fn clear_since(&self, node: usize, replica: usize) -> Option<Duration> {
        let link = (node, replica);
        if let Some((harm, _)) = self.links.get(&link) {
            harm.latency().filter(|it| *it <= Duration::from_millis(SLOW))?;
        }
        Some(self.cleared.get(&link).copied().unwrap_or_default())
    }
}

impl World {
    pub(super) fn begin_trouble(&mut self) {
        let (node, replica) = (self.pick(NODES), self.pick(REPLICAS));
        match self.pick(12) {
            0..2 => {
                self.harm(node, replica, Harm::Partition, self.span(PARTITION[0], PARTITION[1]))
            }
            2..4 => self.harm(node, replica, Harm::Hold, self.span(100, 15_000)),
            4 => self.harm(node, replica, Harm::Slow(self.span(50, SLOW)), self.span(500, 10_000)),
            5 => {
                self.harm(node, replica, Harm::Slow(self.span(SLOW, 1_500)), self.span(500, 10_000))
            }
            6 => self.harm(node, replica, Harm::Lossy(self.span(50, 800)), self.span(500, 10_000)),
            7 => {
                // Nobody can be reached: that is what makes a node wait longer from try to try.
                let (harm, span) = match self.pick(2) {
                    0 => (Harm::Partition, self.span(PARTITION[0], 2 * PARTITION[1])),
                    _ => (Harm::Hold, self.span(1_000, 30_000)),
                };
                (0..REPLICAS).for_each(|replica| self.harm(node, replica, harm, span));
            }
            8 => self.befall(replica, Fate::Blind, self.span(500, 10_000)),
            9 => self.befall(replica, Fate::Down, self.span(100, 10_000)),
            10 => self.befall(replica, Fate::Leaving, self.span(300, 3_000)),
            _ if self.pick(2) == 0 => self.replicas[replica].state().is_careless = true,
            _ => self.kill_for(node, self.span(10, 5_000)),
        }
    }

    /// Ends those that last no longer than until then.
    pub(super) fn end_troubles(&mut self, then: Duration) {
        let Troubles { links, replicas, killed, .. } = &self.troubles;
        let links: Vec<_> = links.iter().filter(|(_, (_, end))| *end <= then).collect();
        let links: Vec<_> = links.into_iter().map(|(link, (harm, _))| (*link, *harm)).collect();
        let replicas = replicas.iter().filter(|(_, (_, end))| *end <= then);
        let replicas: Vec<_> = replicas.map(|(replica, (fate, _))| (*replica, *fate)).collect();
        let killed = killed.iter().filter(|(_, end)| **end <= then);
        let killed: Vec<_> = killed.map(|(node, _)| *node).collect();
        links.into_iter().for_each(|(link, harm)| self.mend(link, harm));
        replicas.into_iter().for_each(|(replica, fate)| self.restore(replica, fate));
        for node in killed {
            self.troubles.killed.remove(&node);
            self.troubles.spared.insert(node, self.now() + SPARED);
            self.sim.bounce(node_name(node));
        }
    }

    /// Ends them all.
    pub(super) fn heal(&mut self) {
        self.end_troubles(Duration::MAX);
    }

    fn harm(&mut self, node: usize, replica: usize, harm: Harm, span: Duration) {
        let link = (node, replica);
        let until = (self.now() + span).min(self.troubles.end);
        let least = Duration::from_millis(PARTITION[0]);
        let is_short = matches!(harm, Harm::Partition) && until < self.now() + least;
        if is_short || self.troubles.links.contains_key(&link) {
            return;
        }
        self.troubles.links.insert(link, (harm, until));
        let (a, b) = (node_name(node), replica_name(replica));
        match harm {
            Harm::Partition => self.sim.partition(a, b),
            Harm::Hold => self.sim.hold(a, b),
            Harm::Slow(latency) => self.sim.set_link_latency(a, b, latency),
            Harm::Lossy(latency) => self.sim.set_link_max_message_latency(a, b, latency),
        }
    }

    fn mend(&mut self, link: (usize, usize), harm: Harm) {
        self.troubles.links.remove(&link);
        let (a, b) = (node_name(link.0), replica_name(link.1));
        match harm {
            Harm::Partition => self.sim.repair(a, b),
            Harm::Hold => self.sim.release(a, b),
            Harm::Slow(_) | Harm::Lossy(_) => {
                let [min, max] = LATENCY;
                self.sim.set_link_latency(&*a, &*b, min);
                self.sim.set_link_max_message_latency(a, b, max);
            }
        }
        // What is under way takes as long as it would have.
        let latency = harm.latency().unwrap_or_default();
        self.troubles.cleared.insert(link, self.now() + latency);
    }

    fn befall(&mut self, replica: usize, fate: Fate, span: Duration) {
        if self.troubles.replicas.contains_key(&replica) {
            return;
        }
        self.troubles.replicas.insert(replica, (fate, self.now() + span));
        match fate {
            Fate::Blind => self.replicas[replica].state().is_blind = true,
            Fate::Down => self.sim.crash(replica_name(replica)),
            Fate::Leaving => self.replicas[replica].state().drains = true,
        }
    }

    fn restore(&mut self, replica: usize, fate: Fate) {
        self.troubles.replicas.remove(&replica);
        match fate {
            Fate::Blind => self.replicas[replica].state().is_blind = false,
            Fate::Down | Fate::Leaving => self.sim.bounce(replica_name(replica)),
        }
    }

    fn kill_for(&mut self, node: usize, span: Duration) {
        let now = self.now();
        let is_spared = self.troubles.spared.get(&node).is_some_and(|until| *until > now);
        if is_spared || self.troubles.killed.contains_key(&node) {
            return;
        }
        self.troubles.killed.insert(node, now + span);
        self.kill(node);
    }
}
