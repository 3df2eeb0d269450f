//! A worker's leases: requests are admitted from tokens it holds, and Redis is asked for many at a
//! time.
//!
//! Leases belong to workers, not to nodes: so a token is spent by a plain subtraction, without an
//! atomic operation and without another thread to be woken, and nothing is less exact, for it is
//! Redis that counts. A worker asks for what it needs at its own pace, so that many workers do not
//! hold more than few. Where a limit gives less than one token in the time of a lease, every request
//! is a call of its own, but for those that wait at the same time: they share one.
//!
//! For one bucket there is one call at a time. A request that finds no token waits for it, then
//! looks again. One that finds the bucket empty is refused at once, until a token may be there; where
//! requests are refused all the time and Redis is far, until one is (see `lease.rs`).

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};

use super::{
    Shared,
    ask::Ask,
    buckets::Tally,
    flight::Flight,
    gcra::Refill,
    lease::{FAR, SHORT, Stock},
    places::Place,
    policy::Each,
    redis::{Away, Link},
};

/// How many calls a request waits for at most. More than one or two it needs only where others,
/// or a machine that stands still, are always faster.
const ROUNDS: u32 = 16;

/// How often it is looked for tokens that nobody came for.
const RETURN_EVERY: Duration = Duration::from_nanos(SHORT / 2);

/// When so many places are listed, those that are thrown out are listed no more: while Redis is away, keys
/// by the million may come and go. There are never as many that are not.
const LISTED: usize = 1 << 16;

/// So many calls at a time that no request waits for: a Redis that is back must not be late at once.
const CALLS_A_TURN: usize = 256;

/// The leases of one worker.
pub(super) struct Leases {
    shared: Arc<Shared>,
    link: Rc<Link>,
    /// Places that may have tokens to be given back. Borrowed for single calls of it.
    unspent: RefCell<Vec<Rc<Place>>>,
    /// Told when there are some again.
    filled: Notify,
}

impl Leases {
    /// Nothing leased yet.
    pub(super) fn new(shared: Arc<Shared>, link: Rc<Link>) -> Self {
        Self { shared, link, unspent: RefCell::default(), filled: Notify::new() }
    }

    /// Takes a token from each place, or none; `None`: Redis must be asked.
    pub(super) fn at_once(&self, places: &[Rc<Place>], now: u64) -> Option<Result<Tally, Away>> {
        let Some(epoch) = self.link.epoch() else { return Some(Err(Away)) };
        let answer_time = self.link.answer_time();
        let is_far = answer_time > FAR;
        let (mut all_held, mut admitted) = (true, true);
        for place in places {
            self.collect(place);
            let mut lease = place.lease();
            lease.follow(place.bucket(), epoch);
            match lease.stock(now) {
                Stock::Held => {}
                Stock::Empty => {
                    lease.refuse(now);
                    admitted = false;
                }
                Stock::Unknown if is_far && lease.puts_off(now, answer_time) => {
                    lease.refuse(now);
                    admitted = false;
                    drop(lease);
                    self.prefetch(place, now);
                }
                Stock::Unknown => all_held = false,
            }
        }
        if admitted && !all_held {
            return None;
        }
        let mut levels = Each::new();
        for place in places {
            let mut lease = place.lease();
            if admitted {
                lease.spend();
            }
            levels.push(lease.level(now));
            let runs_low = admitted
                && (lease.runs_low(now)
                    || is_far && lease.runs_low_of_few(now, self.shared.crowd()));
            drop(lease);
            if runs_low {
                self.prefetch(place, now);
            }
        }
        Some(Ok(Tally { admitted, levels }))
    }

    /// The same, after Redis was asked.
    pub(super) async fn admit(&self, places: &[Rc<Place>]) -> Result<Tally, Away> {
        let _waiting: Each<_> = places.iter().map(|place| place.waiting.join()).collect();
        for _ in 0..ROUNDS {
            let now = self.shared.clock.now();
            if let Some(outcome) = self.at_once(places, now) {
                return outcome;
            }
            let flight = self.flight(places, now).ok_or(Away)?;
            if !flight.landed().await {
                return Err(Away);
            }
        }
        Err(Away)
    }

    /// Notes what a request cost that is over, to be told to Redis.
    pub(super) fn owe(&self, place: &Rc<Place>, tokens: u64) {
        let now = self.shared.clock.now();
        let ends_in = self.shared.clock.moment(place.bucket().refill, now).ends_in;
        place.lease().owe(tokens, now, ends_in);
        self.list(place);
    }

    /// Notes a request that was admitted without Redis, to be told to it when it is back.
    pub(super) fn spend_without_redis(&self, place: &Rc<Place>, now: u64) {
        let ends_in = self.shared.clock.moment(place.bucket().refill, now).ends_in;
        place.lease().spend_without_redis(now, self.shared.crowd(), ends_in);
        self.list(place);
    }

    /// Gives back what is held of quotas and tells what is owed. The last thing a worker does.
    pub(super) async fn leave(&self) {
        let listed = std::mem::take(&mut *self.unspent.borrow_mut());
        let mut told = Vec::new();
        for place in listed {
            place.is_listed.set(false);
            let under_way = place.flight.borrow().as_ref().map(|(flight, _)| flight.clone());
            if let Some(flight) = under_way {
                flight.landed().await;
                self.collect(&place);
            }
            place.lease().give_up();
            told.extend(self.settle(&place, self.shared.clock.now()));
        }
        for flight in told {
            flight.landed().await;
        }
    }

    /// How many places are listed.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        self.unspent.borrow().len()
    }

    /// Whether Redis is there.
    pub(super) fn is_there(&self) -> bool {
        self.link.epoch().is_some()
    }

    /// Gives back what nobody spends. Runs as long as the worker.
    pub(super) async fn run(&self) {
        loop {
            self.filled.notified().await;
            while self.give_back(self.shared.clock.now()) {
                sleep(RETURN_EVERY).await;
            }
        }
    }

    /// The call to wait for: the one under way for a place that has no token, or else a new one for
    /// all of those it can reach. Tokens got for one stay with it until there are some for all.
    fn flight(&self, places: &[Rc<Place>], now: u64) -> Option<Arc<Flight>> {
        let is_out = |place: &&Rc<Place>| place.lease().stock(now) == Stock::Unknown;
        let out: Each<_> = places.iter().filter(is_out).cloned().collect();
        let under_way =
            |place: &Rc<Place>| place.flight.borrow().as_ref().map(|(it, _)| it.clone());
        if let Some(flight) = out.iter().find_map(under_way) {
            return Some(flight);
        }
        let first = first_of(&out)?.clone();
        let out: Each<_> = out.into_iter().filter(|place| place.is_beside(&first)).collect();
        // Who waits for one of them alone, waits for a call of its own.
        let waiting = out.iter().map(|place| place.waiting.count()).min()?;
        let crowd = self.shared.crowd();
        let ask = |place: &Rc<Place>| place.lease().ask(now, waiting, crowd);
        self.send(&out, out.iter().map(ask).collect(), now)
    }

    /// Asks for tokens that no request waits for, unless there is a call for the place already.
    fn prefetch(&self, place: &Rc<Place>, now: u64) {
        if place.flight.borrow().is_some() {
            return;
        }
        let ask = place.lease().ask(now, 0, self.shared.crowd());
        self.send(std::slice::from_ref(place), std::iter::once(ask).collect(), now);
    }

    /// Makes a call. Whoever it is made for may be gone when it is answered, and nobody come any more:
    /// so the places are looked after from now on.
    fn send(&self, places: &[Rc<Place>], asks: Each<Ask>, now: u64) -> Option<Arc<Flight>> {
        let names = places.iter().map(|place| place.hold.name().clone()).collect();
        let flight = self.link.send(names, asks, now)?;
        for (seat, place) in places.iter().enumerate() {
            place.flight.replace(Some((flight.clone(), seat)));
            self.list(place);
        }
        Some(flight)
    }

    /// Takes what came for a place, if it is there.
    fn collect(&self, place: &Rc<Place>) {
        let Some((flight, seat)) = place.landed() else { return };
        let Some(answer) = flight.answer() else { return };
        let (ask, grant) = (flight.asks.get(seat), answer.and_then(|a| a.grants.get(seat)));
        if let (Some(ask), Some(grant), Some(landing)) = (ask, grant, answer) {
            let mut lease = place.lease();
            let when = (flight.epoch, flight.sent, landing.at);
            lease.take((ask, grant), when, self.shared.crowd());
            if let Some(forgotten) = place.forgotten(grant)
                && !self.shared.lost.note(forgotten)
            {
                lease.owe_again(ask, grant.passed_over, flight.sent);
            }
            drop(lease);
            self.list(place);
        }
    }

    fn list(&self, place: &Rc<Place>) {
        if place.has_business() && !place.is_listed.replace(true) {
            let mut unspent = self.unspent.borrow_mut();
            if unspent.len() >= LISTED {
                unspent.retain(|place| !place.is_gone());
            }
            unspent.push(place.clone());
            self.filled.notify_one();
        }
    }

    /// Gives back what has ended unspent, and tells what is owed. False: there is nothing that could.
    fn give_back(&self, now: u64) -> bool {
        // While Redis is away, it waits.
        if self.is_there() {
            let listed = std::mem::take(&mut *self.unspent.borrow_mut());
            let mut calls = 0;
            for place in listed {
                place.is_listed.set(false);
                self.collect(&place);
                if place.is_listed.get() {
                    continue;
                }
                if calls < CALLS_A_TURN {
                    calls += usize::from(self.settle(&place, now).is_some());
                }
                self.list(&place);
            }
        }
        !self.unspent.borrow().is_empty()
    }

    /// Sends what is to be said of a place, if there is anything and no call is under way for it.
    fn settle(&self, place: &Rc<Place>, now: u64) -> Option<Arc<Flight>> {
        let epoch = self.link.epoch()?;
        if place.flight.borrow().is_some() {
            return None;
        }
        let mut lease = place.lease();
        lease.follow(place.bucket(), epoch);
        lease.stock(now);
        if !lease.is_due() {
            return None;
        }
        let ask = lease.settle(now);
        drop(lease);
        self.send(std::slice::from_ref(place), std::iter::once(ask).collect(), now)
    }
}

/// Which of some places is asked first: one that had no token when last heard of, for what others gave
/// would be held for nothing if it has none; else one that is not asked together with a quota.
fn first_of(out: &[Rc<Place>]) -> Option<&Rc<Place>> {
    let is_with_quota = |place: &Rc<Place>| {
        out.iter().any(|one| one.bucket().refill != Refill::Steady && one.is_beside(place))
    };
    let had_none = out.iter().find(|place| place.lease().was_empty());
    had_none.or_else(|| out.iter().find(|place| !is_with_quota(place))).or(out.first())
}
