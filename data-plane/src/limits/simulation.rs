//! Nodes that lease from one bucket, in virtual time: the promises of `lease.rs`, for any pattern of
//! requests, with calls that are slow or lost, and workers that die with what they hold.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use proptest::prelude::*;

use super::{
    ask::{Ask, Grant},
    crowd::Crowd,
    gcra::Bucket,
    lease::{FAR, Lease, SHORT, Stock},
    mirror::{self, Kept},
};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// L of the promise.
const SLACK: u64 = 100 * MILLISECOND;

/// What happens to a world.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    bucket: Bucket,
    nodes: u64,
    /// As told to the nodes.
    nodes_known: bool,
    workers: u64,
    /// Requests in the time of one token, over all workers, in hundredths.
    load: u64,
    /// Whether quiet, busy and silent times follow each other, and rushes to all workers at once.
    uneven: bool,
    /// Of a thousand calls, how many are lost, and how many workers die after one.
    trouble: u64,
    /// The longest a call takes on each of its two ways, but for those in trouble.
    way: u64,
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// Of a worker, at the load of a phase.
    Request {
        phase: u64,
    },
    Phase,
    Arrive {
        flight: usize,
    },
    Land {
        flight: usize,
    },
    GiveBack,
}

struct Flight {
    ask: Ask,
    sent: u64,
    /// `None`: not there yet, or lost.
    grant: Option<Grant>,
    /// Of the worker that sent it: another one may have its place by now.
    life: u64,
}

struct Worker {
    lease: Lease,
    /// Its clock's lead.
    offset: u64,
    waiting: u64,
    flight: Option<usize>,
    life: u64,
}

/// What became of the requests.
struct Outcome {
    admitted: Vec<u64>,
    requests: u64,
    /// Requests that were not answered at once.
    waited: u64,
    calls: u64,
}

struct World {
    plan: Plan,
    dice: u64,
    redis: [Kept; 1],
    workers: Vec<Worker>,
    flights: Vec<Flight>,
    events: BinaryHeap<Reverse<(u64, u64, usize, Event)>>,
    order: u64,
    phase: u64,
    /// As in the plan, in this phase.
    load: u64,
    outcome: Outcome,
}

impl Plan {
    fn play(self) -> Outcome {
        let crowd = (self.nodes * self.workers) as usize;
        let mut world = World {
            plan: self,
            dice: self.seed | 1,
            redis: [Kept::default()],
            workers: Vec::new(),
            flights: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            phase: 0,
            load: self.load,
            outcome: Outcome { admitted: Vec::new(), requests: 0, waited: 0, calls: 0 },
        };
        for worker in 0..crowd {
            let offset = world.roll(3600 * SECOND);
            let lease = world.fresh_lease();
            world.workers.push(Worker { lease, offset, waiting: 0, flight: None, life: 0 });
            world.at(SECOND, worker, Event::GiveBack);
        }
        world.at(SECOND, 0, Event::Phase);
        let end = (1 + self.seconds) * SECOND;
        while let Some(Reverse((now, _, worker, event))) = world.events.pop() {
            if now > end {
                break;
            }
            world.happen(now, worker, event);
        }
        world.outcome
    }

    fn crowd(&self) -> Crowd {
        Crowd { nodes: if self.nodes_known { self.nodes } else { 0 }, workers: self.workers }
    }
}

impl World {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides.max(1)
    }

    fn fresh_lease(&self) -> Lease {
        let mut lease = Lease::new(self.plan.bucket);
        lease.follow(self.plan.bucket, 1);
        lease
    }

    fn at(&mut self, time: u64, worker: usize, event: Event) {
        self.order += 1;
        let time = time / MICROSECOND * MICROSECOND;
        self.events.push(Reverse((time, self.order, worker, event)));
    }

    fn happen(&mut self, now: u64, worker: usize, event: Event) {
        match event {
            Event::Request { phase } if phase == self.phase => {
                self.come(now, worker, 1);
                self.next_request(now, worker);
            }
            Event::Request { .. } => {}
            Event::Phase => self.begin_phase(now),
            Event::Arrive { flight } => {
                let ask = self.flights[flight].ask;
                let grants = mirror::call(&mut self.redis, &[ask], now);
                self.flights[flight].grant = grants.first().copied();
            }
            Event::Land { flight } => {
                let Flight { ask, sent, grant, life } = self.flights[flight];
                let crowd = self.plan.crowd();
                let this = &mut self.workers[worker];
                if life != this.life {
                    return;
                }
                this.flight = None;
                match grant {
                    Some(grant) => {
                        let when = (1, sent + this.offset, now + this.offset);
                        this.lease.take((&ask, &grant), when, crowd);
                    }
                    // Who waited does without Redis, which is not the matter here.
                    None => this.waiting = 0,
                }
                self.look(now, worker);
                if self.roll(1000) < self.plan.trouble {
                    let lease = self.fresh_lease();
                    let this = &mut self.workers[worker];
                    (this.lease, this.flight, this.waiting) = (lease, None, 0);
                    this.life += 1;
                }
            }
            Event::GiveBack => {
                let this = &mut self.workers[worker];
                this.lease.stock(now + this.offset);
                if this.flight.is_none() && this.lease.is_due() {
                    let ask = this.lease.settle(now + this.offset);
                    self.send(now, worker, ask);
                }
                self.at(now + 40 * MILLISECOND, worker, Event::GiveBack);
            }
        }
    }

    fn begin_phase(&mut self, now: u64) {
        self.phase += 1;
        let workers = self.workers.len();
        if self.plan.uneven {
            let was_silent = self.load == 0;
            self.load = [0, 0, 10, 50, 100, 300, 1000][self.roll(7) as usize];
            // Often as long as a lease is good for, or until a bucket is full: a rush to workers that
            // held on to tokens meanwhile is the worst of all.
            let length = match self.roll(3) {
                0 => self.roll(self.plan.bucket.capacity.min(300 * MILLISECOND)),
                1 => SHORT - self.roll(20 * MILLISECOND),
                _ if self.load == 0 => self.plan.bucket.capacity,
                _ => 50 * MILLISECOND,
            };
            self.at(now + length + MICROSECOND, 0, Event::Phase);
            if was_silent || self.roll(3) == 0 {
                let each = self.roll(self.plan.bucket.tokens() * 2 / workers as u64 + 2);
                (0..workers).for_each(|worker| self.come(now, worker, each));
            }
        }
        (0..workers).for_each(|worker| self.next_request(now, worker));
    }

    fn next_request(&mut self, now: u64, worker: usize) {
        let crowd = self.workers.len() as u64;
        let Some(mean) = (self.plan.bucket.interval * crowd * 100).checked_div(self.load) else {
            return;
        };
        let gap = self.roll(2 * mean).max(MICROSECOND);
        self.at(now + gap, worker, Event::Request { phase: self.phase });
    }

    fn come(&mut self, now: u64, worker: usize, requests: u64) {
        self.outcome.requests += requests;
        self.workers[worker].waiting += requests;
        self.look(now, worker);
        self.outcome.waited += self.workers[worker].waiting.min(requests);
    }

    /// What `leases.rs` does with requests that wait.
    fn look(&mut self, now: u64, worker: usize) {
        let crowd = self.plan.crowd();
        let this = &mut self.workers[worker];
        let local = now + this.offset;
        let (answer_time, mut is_put_off) = (self.plan.way, false);
        let is_far = answer_time > FAR;
        while this.waiting > 0 {
            match this.lease.stock(local) {
                Stock::Held => {
                    this.lease.spend();
                    self.outcome.admitted.push(now);
                }
                Stock::Empty => this.lease.refuse(local),
                Stock::Unknown if is_far && this.lease.puts_off(local, answer_time) => {
                    this.lease.refuse(local);
                    is_put_off = true;
                }
                Stock::Unknown => break,
            }
            this.waiting -= 1;
        }
        let is_out = this.waiting > 0;
        let runs_low = this.lease.stock(local) == Stock::Held
            && (this.lease.runs_low(local) || is_far && this.lease.runs_low_of_few(local, crowd));
        if this.flight.is_none() && (is_out || is_put_off || runs_low) {
            let ask = this.lease.ask(local, this.waiting, crowd);
            self.send(now, worker, ask);
        }
    }

    fn send(&mut self, now: u64, worker: usize, ask: Ask) {
        self.outcome.calls += 1;
        let flight = self.flights.len();
        let life = self.workers[worker].life;
        self.flights.push(Flight { ask, sent: now, grant: None, life });
        self.workers[worker].flight = Some(flight);
        let slow = self.roll(100) == 0 && self.plan.trouble > 0;
        let there = if slow { self.roll(60 * MILLISECOND) } else { self.roll(self.plan.way) };
        let back = if slow { self.roll(60 * MILLISECOND) } else { self.roll(self.plan.way) };
        // One is lost on its way, or its answer is.
        let trouble = self.plan.trouble;
        let (lost, answer_lost) = (self.roll(1000) < trouble, self.roll(1000) < trouble);
        if !lost {
            self.at(now + there, worker, Event::Arrive { flight });
        }
        let patience = 75 * MILLISECOND;
        let lands = if lost || answer_lost { patience } else { there + back };
        self.at(now + lands, worker, Event::Land { flight });
    }
}

impl Outcome {
    /// The most that any window admitted beyond its burst and refill, in the time of tokens.
    fn overshoot(&self, bucket: Bucket) -> i128 {
        let (interval, capacity) = (i128::from(bucket.interval), i128::from(bucket.capacity));
        let (mut least, mut most) = (i128::MAX, i128::MIN);
        for (at, time) in self.admitted.iter().enumerate() {
            let level = at as i128 * interval - i128::from(*time);
            least = least.min(level);
            most = most.max(level - least + interval - capacity);
        }
        most
    }

    fn share_of(&self, possible: u64) -> f64 {
        self.admitted.len() as f64 / possible as f64
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    // Up to 50,000 a second; bursts from one token to some seconds. Where the burst is small and the
    // rate is high, a lease is much of it.
    let interval = prop_oneof![
        20 * MICROSECOND..MILLISECOND,
        MILLISECOND..100 * MILLISECOND,
        100 * MILLISECOND..SECOND
    ];
    let burst = prop_oneof![10 * MILLISECOND..500 * MILLISECOND, 500 * MILLISECOND..5 * SECOND];
    let crowd = (prop_oneof![Just(1_u64), Just(4), Just(16)], any::<bool>(), 1..3_u64);
    let trouble = prop_oneof![Just(0_u64), 1..200_u64];
    let way = prop_oneof![Just(MILLISECOND), MILLISECOND..10 * MILLISECOND];
    (any::<u64>(), interval, burst, crowd, (trouble, way)).prop_map(
        |(seed, interval, burst, (nodes, nodes_known, workers), (trouble, way))| {
            let interval = interval / MICROSECOND * MICROSECOND;
            let bucket = Bucket::steady(interval, burst / interval + 1);
            // As long as there is time to play it.
            let seconds = (interval * 10_000 / SECOND).clamp(3, 60);
            let (load, uneven) = (100, true);
            Plan { seed, bucket, nodes, nodes_known, workers, load, uneven, trouble, way, seconds }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The promise, whatever happens.
    #[test]
    fn no_window_admits_more_than_burst_and_refill_and_a_lease(plan in plans()) {
        let overshoot = plan.play().overshoot(plan.bucket);
        prop_assert!(overshoot <= i128::from(SLACK), "{overshoot} ns");
    }
}

/// Some nodes, and how long a call takes on each way to a Redis that is near, or far.
fn worlds() -> impl Iterator<Item = (u64, u64)> {
    let ways = [MILLISECOND, 5 * MILLISECOND];
    [1, 4, 16].into_iter().flat_map(move |nodes| ways.map(|way| (nodes, way)))
}

fn quiet(bucket: Bucket, nodes: u64, load: u64, way: u64, seconds: u64) -> Plan {
    let trouble = 0;
    let (nodes_known, workers, uneven) = (true, 2, false);
    Plan { seed: 99, bucket, nodes, nodes_known, workers, load, uneven, trouble, way, seconds }
}

#[test]
fn an_overloaded_limit_admits_what_it_says() {
    for per_minute in [60, 6_000, 600_000] {
        let bucket = Bucket::steady(60 * SECOND / per_minute, per_minute);
        for (nodes, way) in worlds() {
            let plan = quiet(bucket, nodes, 1000, way, if per_minute > 6_000 { 10 } else { 60 });
            let outcome = plan.play();
            // All of the burst is asked for only as fast as requests come.
            let asked_for = outcome.requests;
            let possible = per_minute + plan.seconds * SECOND / bucket.interval;
            let share = outcome.share_of(possible.min(asked_for));
            let case = format!("{per_minute}/min, {nodes} nodes, {way} ns a way");
            println!("{case}: {share:.4}, {} calls, {} waited", outcome.calls, outcome.waited);
            assert!((0.98..=1.01).contains(&share), "{case}: {share}");
        }
    }
}

#[test]
fn a_load_below_the_limit_is_admitted_whoever_it_comes_to() {
    for (per_second, burst) in [(100, 100), (1_000, 100), (10_000, 1_000)] {
        let bucket = Bucket::steady(SECOND / per_second, burst);
        for (nodes, way) in worlds() {
            let mut shares = BTreeMap::new();
            let case = format!("{per_second}/s burst {burst}, {nodes} nodes, {way} ns a way");
            for load in [50, 90] {
                let outcome = quiet(bucket, nodes, load, way, 10).play();
                shares.insert(load, outcome.share_of(outcome.requests));
                println!(
                    "{case}, load {load} %: {:.4} admitted, {:.3} waited, {:.3} calls a request",
                    shares[&load],
                    outcome.waited as f64 / outcome.requests as f64,
                    outcome.calls as f64 / outcome.requests as f64
                );
            }
            assert!(shares[&50] > 0.99 && shares[&90] > 0.95, "{case}: {shares:?}");
        }
    }
}
