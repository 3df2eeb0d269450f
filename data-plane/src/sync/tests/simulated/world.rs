//! Nodes, control planes and the network between them, and what must hold at every moment.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use super::{
    super::{CONFIG, KEYS, Progress, SnapshotCell, named},
    panics,
    replica::{PORT, Replica, Stream},
    store::{Store, hash_of},
    trouble::Troubles,
};
use crate::{random::Random, simulation, snapshot::Snapshot};

pub(super) const NODES: usize = 4;
pub(super) const REPLICAS: usize = 3;

/// How long a node may serve a key after the control plane it follows knows that it is revoked.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

/// How far the simulation goes in one step.
const STEP: Duration = Duration::from_millis(20);

/// The network as it is without troubles: messages overtake each other.
pub(super) const LATENCY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

pub(super) struct World {
    pub(super) sim: Sim<'static>,
    pub(super) chance: Random,
    store: Arc<Mutex<Store>>,
    pub(super) replicas: Vec<Replica>,
    nodes: Vec<Node>,
    pub(super) troubles: Troubles,
    recreated: u32,
    pub(super) trace: Vec<InForce>,
    /// The longest a revoked key was served, of those the promise was kept for.
    pub(super) slowest: Duration,
}

/// What came in force when and where: milliseconds, node, revisions of keys and config.
pub(super) type InForce = (u128, usize, u64, u64);

/// A node, over all its starts.
struct Node {
    running: Arc<Mutex<Option<Running>>>,
    /// As of the last look.
    seen: Option<Seen>,
}

/// One start of it.
#[derive(Clone)]
struct Running {
    cell: SnapshotCell,
    progress: Progress,
    boot_id: String,
}

struct Seen {
    boot_id: String,
    snapshot: Option<Arc<Snapshot>>,
    /// The keys that open something.
    opens: BTreeSet<u32>,
    /// Keys that did and do no longer.
    denied: BTreeSet<u32>,
    /// How often a revision was followed by an earlier one.
    set_back: [u32; 2],
}

pub(super) fn node_name(n: usize) -> String {
    format!("n{n}")
}

pub(super) fn replica_name(n: usize) -> String {
    format!("cp{n}")
}

impl World {
    pub(super) fn new(seed: u64, disk: &TempDir) -> Self {
        simulation::seed(seed);
        let chance = Random::of_seed(seed);
        let [min, max] = LATENCY;
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(STEP)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(min)
            .max_message_latency(max)
            .tcp_capacity(1024)
            .build();
        let store = Arc::new(Mutex::new(Store::new(&chance)));
        let replicas: Vec<_> = (0..REPLICAS).map(|_| Replica::new(&store)).collect();
        for (n, replica) in replicas.iter().enumerate() {
            let replica = replica.clone();
            sim.host(replica_name(n), move || replica.clone().run());
        }
        let mut nodes = Vec::new();
        for n in 0..NODES {
            // One has a disk; the others come back with nothing. More would wait for a real one most of the time.
            let dir = (n == 0).then(|| disk.path().join(node_name(n)));
            let running = Arc::new(Mutex::default());
            let node = Node { running: Arc::clone(&running), seen: None };
            sim.host(node_name(n), move || start(n, dir.clone(), Arc::clone(&running)));
            nodes.push(node);
        }
        let troubles = Troubles::default();
        let (trace, slowest) = (Vec::new(), Duration::ZERO);
        Self { sim, chance, store, replicas, nodes, troubles, recreated: 0, trace, slowest }
    }

    pub(super) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// A number below `bound`.
    pub(super) fn pick(&self, bound: usize) -> usize {
        usize::try_from(self.chance.next() % bound as u64).expect("is small")
    }

    /// Between the two, in steps of a millisecond.
    pub(super) fn span(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.chance.next() % (to - from))
    }

    /// Goes on until then; in every step something may be committed, and everything is looked at.
    pub(super) fn run_until(&mut self, then: Duration, troubles: bool) {
        while self.now() < then {
            match self.pick(1000) {
                0..40 => self.store().change_keys(&self.chance),
                40..50 => self.store().change_config(&self.chance),
                50 if self.pick(10) == 0 => {
                    self.recreated += 1;
                    self.store().recreate(&self.chance);
                }
                51..60 if troubles => self.begin_trouble(),
                _ => {}
            }
            self.end_troubles(self.now());
            self.step();
        }
    }

    /// Goes on without changes until all nodes are where the store is; false if that takes longer than `patience`.
    pub(super) fn converges_within(&mut self, patience: Duration) -> bool {
        let end = self.now() + patience;
        while (0..NODES).any(|n| self.lag_of(n).is_some()) {
            if self.now() >= end {
                return false;
            }
            self.step();
        }
        true
    }

    /// What keeps a node from being where the store is.
    pub(super) fn lag_of(&self, n: usize) -> Option<String> {
        let Some((_, stream)) = self.followed_by(n) else { return Some("follows nobody".into()) };
        let store = self.store();
        for (ns, held) in [KEYS, CONFIG].into_iter().zip(stream.held) {
            let head = store.log(ns).at;
            if held != Some(head) {
                return Some(format!("holds {ns:?} {held:?}, not {head:?}"));
            }
        }
        let Some(seen) = &self.nodes[n].seen else { return Some("was never seen".into()) };
        let heads = [KEYS, CONFIG].map(|ns| store.log(ns).at.revision);
        let serves = seen.snapshot.as_ref().map(|it| [it.keys_revision, it.config_revision]);
        if serves != Some(heads) || seen.opens != *store.active() {
            return Some(format!("serves {serves:?}, not {heads:?}"));
        }
        None
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&mut self) {
        if let Err(fault) = self.sim.step() {
            panic!("a host failed: {fault}");
        }
        assert_eq!(panics(), 0, "a task panicked");
        for n in 0..NODES {
            self.look_at(n);
            self.check_revocations(n);
        }
    }

    fn running(&self, n: usize) -> Option<Running> {
        self.nodes[n].running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node is killed.
    pub(super) fn kill(&mut self, n: usize) {
        self.sim.crash(node_name(n));
        *self.nodes[n].running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks at what a node has come to serve. All of it was committed at once, and no key opens
    /// again that did not.
    fn look_at(&mut self, n: usize) {
        let Some(running) = self.running(n) else { return };
        let snapshot = running.cell.load();
        let seen = self.nodes[n].seen.take();
        let mut seen =
            seen.filter(|seen| seen.boot_id == running.boot_id).unwrap_or_else(|| Seen {
                boot_id: running.boot_id.clone(),
                snapshot: None,
                opens: BTreeSet::new(),
                denied: BTreeSet::new(),
                set_back: [0; 2],
            });
        if let Some(new) = snapshot
            && seen.snapshot.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &new))
        {
            let store = self.store();
            let keys = store.keys().map(|(key, _)| key);
            let opens: BTreeSet<u32> = keys.filter(|key| opens(&new, *key)).collect();
            let (revision, config) = (new.keys_revision, new.config_revision);
            assert!(store.had(revision, &opens), "n{n} serves keys that never were {revision}");
            drop(store);
            seen.denied.extend(seen.opens.difference(&opens));
            let again: Vec<_> = seen.denied.intersection(&opens).collect();
            assert!(again.is_empty(), "n{n} serves {again:?} again");
            if let Some(old) = &seen.snapshot {
                seen.set_back[0] += u32::from(old.keys_revision > revision);
                seen.set_back[1] += u32::from(old.config_revision > config);
            }
            let most = self.recreated;
            assert!(seen.set_back.iter().all(|times| *times <= most), "n{n} went back");
            self.trace.push((self.now().as_millis(), n, revision, config));
            (seen.opens, seen.snapshot) = (opens, Some(new));
        }
        self.nodes[n].seen = Some(seen);
    }

    /// A node that has been connected for a second denies what its control plane has known as
    /// revoked for as long.
    fn check_revocations(&mut self, n: usize) {
        let (now, Some((at, stream))) = (self.now(), self.followed_by(n)) else { return };
        let clear_since = self.troubles.clear_since(n, at);
        let Some(clear_since) = clear_since.filter(|_| self.connected(n)) else { return };
        let promised_from = clear_since.max(stream.since);
        let Some(seen) = &self.nodes[n].seen else { return };
        let state = self.replicas[at].state();
        for key in &seen.opens {
            let Some(revoked) = state.revoked_since(*key) else { continue };
            let served = now.saturating_sub(revoked.max(promised_from));
            assert!(
                served <= REVOKED_WITHIN,
                "at {now:?} n{n} serves k{key}, which cp{at} has known as revoked since {revoked:?}: \
                 its stream opened at {:?}, it holds {:?}, messages get through since \
                 {clear_since:?}, {:?}",
                stream.since,
                stream.held,
                self.troubles,
            );
            self.slowest = self.slowest.max(served);
        }
    }

    fn connected(&self, n: usize) -> bool {
        self.running(n).is_some_and(|running| running.progress.connected())
    }

    /// The control plane a node said its last Hello to, of those it has said at this start, and its stream there.
    fn followed_by(&self, n: usize) -> Option<(usize, Stream)> {
        let running = self.running(n)?;
        let streams = self.replicas.iter().enumerate().filter_map(|(at, replica)| {
            let stream = replica.state().stream(&node_name(n))?.clone();
            (stream.hello.boot_id == running.boot_id).then_some((at, stream))
        });
        streams.max_by_key(|(_, stream)| stream.hello.uptime_ms)
    }
}

fn opens(snapshot: &Snapshot, key: u32) -> bool {
    snapshot.keys.get(&hash_of(key)).is_some_and(|entry| entry.is_active)
}

/// A node as the server starts it, until it is killed. Each prefers another control plane.
async fn start(
    n: usize,
    dir: Option<PathBuf>,
    running: Arc<Mutex<Option<Running>>>,
) -> turmoil::Result {
    let uris: Vec<Uri> = (0..REPLICAS)
        .map(|at| format!("http://{}:{PORT}", replica_name((n + at) % REPLICAS)))
        .map(|uri| uri.parse().expect("a URL"))
        .collect();
    let node = named(&node_name(n), &uris.iter().collect::<Vec<_>>(), dir.as_deref());
    let (cell, progress, boot_id) = (node.cell, node.progress, node.boot_id);
    let started = Running { cell, progress, boot_id };
    *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    node.follower.run(CancellationToken::new()).await;
    Ok(())
}
