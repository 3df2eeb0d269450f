//! Nodes that follow control planes over a simulated network, through partitions, slow and lossy links, crashes, and
//! control planes that know less than others; all the while keys are issued and revoked.
//!
//! The nodes are real: [`Follower`](super::Follower), its replica, its saver and its disk. The control planes are a model
//! of `control-plane/src/feed`, whose databases would not run in simulated time. At every moment
//!
//! - what a node serves was committed, as a whole, under the revision it says;
//! - a key it has denied it never serves again, and it never goes back;
//! - connected for a second, it denies what its control plane has known as revoked for a second;
//! - no task panics;
//!
//! and five seconds after all troubles have ended every node is where the store is.
//! `FASTGATE_SIMULATIONS` says how many runs are made, `FASTGATE_SIMULATION_SEED` of which seed the first one is; a
//! few that are known to show something are made else.

mod replica;
mod session;
mod store;
mod trouble;
mod world;

use std::{cell::Cell, panic, sync::Once, thread, time::Duration};

use world::{InForce, NODES, World};

/// Within which every node is where the store is, once all troubles have ended.
const CONVERGES_WITHIN: Duration = Duration::from_secs(5);

/// Runs that showed what was broken on purpose: a node that trusts a stream that says nothing, one that waits ten
/// seconds from try to try, a control plane that leads back.
const SAMPLE: [u64; 3] = [2, 13, 19];

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Tasks that panicked on this thread: the runtime catches them.
fn panics() -> u32 {
    PANICS.get()
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

/// Says how to see a failure again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "to see it again: FASTGATE_SIMULATIONS=1 FASTGATE_SIMULATION_SEED={}",
                self.0
            );
        }
    }
}

/// What became of a run.
struct Run {
    took: Duration,
    trace: Vec<InForce>,
    slowest: Duration,
}

/// So many times troubles, and peace after each.
fn simulate(seed: u64, rounds: usize) -> Run {
    count_panics();
    let _seed = Seed(seed);
    // In memory where that can be: a real disk is waited for longer than all else takes.
    let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let disk = disk.expect("a directory");
    let mut world = World::new(seed, &disk);
    for round in 0..rounds {
        let end = world.now() + world.span(5_000, 35_000);
        world.troubles.end = end;
        world.run_until(end, true);
        world.heal();
        let healed = world.now();
        world.run_until(healed + Duration::from_secs(3), false);
        let left = healed + CONVERGES_WITHIN - world.now();
        if !world.converges_within(left) {
            let lags = (0..NODES).filter_map(|n| Some(format!("n{n} {}", world.lag_of(n)?)));
            panic!("in round {round}: {}", lags.collect::<Vec<_>>().join("; "));
        }
    }
    Run { took: world.now(), trace: world.trace, slowest: world.slowest }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nodes_find_back_and_serve_no_revoked_key_whatever_the_network_does() {
    let seeds = match (number("FASTGATE_SIMULATIONS"), number("FASTGATE_SIMULATION_SEED")) {
        (None, None) => SAMPLE.to_vec(),
        (runs, first) => {
            let first = first.unwrap_or(1);
            (first..first + runs.unwrap_or(1)).collect()
        }
    };
    for seed in seeds {
        let Run { took, trace, slowest } = simulate(seed, 2);
        let steps = trace.len();
        println!("seed {seed}: {steps} steps in {took:.0?}, a revoked key served for {slowest:?}");
    }
}

#[test]
fn a_seed_makes_the_same_run_again() {
    let [one, again] = [7, 7].map(|seed| simulate(seed, 1).trace);
    let other = one.iter().zip(&again).position(|(one, again)| one != again);
    assert_eq!(other.map(|at| (one[at], again[at])), None, "of {}", one.len());
}
