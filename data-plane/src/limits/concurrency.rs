//! Limits of requests under way: who may begin one, and what becomes of its slot.
//!
//! With Redis, each worker has slots of its own and asks for more when it runs out; `slots.lua` adds up
//! what all have. A request that finds none waits for the next look, 20 ms later at most, and for one
//! more: slots others put back are there by then. Without Redis, or while it is away, the requests of
//! this node are counted, against its share of the limit.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::BuildHasher as _,
    num::NonZeroU32,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use fastgate::model::Fallback;
use foldhash::fast::RandomState;
use tokio::{sync::Notify, time::sleep};

use super::{
    Shared,
    label::{Label, Labels},
    lease::Stock,
    policy::{Entered, Policies, Policy, Standing, Verdict},
    redis::{Call, Link, Reservation},
    shelf::{Keep, Shelves, Spot},
    slots::{EVERY, LIFE, Slots, share},
    waiting::Waiters,
};

/// How often a request that finds no slot looks for one.
const LOOKS: u32 = 3;

/// The requests under way of one worker, as far as they are limited.
pub(super) struct Concurrency {
    shared: Arc<Shared>,
    /// `None`: without Redis.
    link: Option<Rc<Link>>,
    /// Stands for the worker in Redis.
    holder: u64,
    labels: Rc<Labels>,
    rooms: Shelves<Room>,
    /// Rooms that have slots. Borrowed for single calls of it.
    open: RefCell<Vec<Rc<Room>>>,
    /// Told when there are some again.
    opened: Notify,
}

/// What a worker has at hand of one bucket of slots.
struct Room {
    spot: Spot,
    label: Label,
    /// In Redis.
    name: Arc<str>,
    /// Requests under way on this node.
    here: Arc<AtomicU64>,
    // The two below are borrowed for single calls of each.
    slots: RefCell<Slots>,
    call: RefCell<Option<Arc<Call>>>,
    /// Requests that wait for one.
    waiting: Waiters,
    is_listed: Cell<bool>,
}

/// A request under way. Dropping it makes room for another one.
pub(crate) struct Slot(Rc<Room>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, AcqRel);
        self.0.slots.borrow_mut().put_back();
    }
}

/// Why there is no slot.
enum Refused {
    /// All are taken.
    Full,
    /// Redis is away, and the limit is `closed`.
    Closed,
}

impl Concurrency {
    /// Nothing under way.
    pub(super) fn new(shared: Arc<Shared>, link: Option<Rc<Link>>, labels: Rc<Labels>) -> Self {
        Self {
            shared,
            link,
            // As many bits as Lua's numbers have.
            holder: RandomState::default().hash_one(0_u8) >> 12,
            labels,
            rooms: Shelves::new(),
            open: RefCell::default(),
            opened: Notify::new(),
        }
    }

    /// A slot of each limit, or what is said to the request instead.
    pub(super) async fn enter(&self, policies: &Policies<'_>) -> Result<Entered, Verdict> {
        let mut slots = Entered::new();
        for (policy, is_shadow) in &policies.concurrent {
            let room = self.find(policy);
            let looks = if *is_shadow { 1 } else { LOOKS };
            match self.take(&room, policy, looks).await {
                Ok(slot) => slots.push(slot),
                Err(Refused::Full) if *is_shadow => {
                    room.label.refusals().shadow.fetch_add(1, Relaxed);
                }
                Err(Refused::Closed) if *is_shadow => {}
                Err(Refused::Full) => {
                    room.label.refusals().enforced.fetch_add(1, Relaxed);
                    let limit = policy.measure.get().into();
                    let standing = Standing::concurrent(room.label.clone(), limit, 0);
                    let standings = std::iter::once(standing).collect();
                    let retry_after = Duration::from_secs(1);
                    return Err(Verdict::Refused { standings, retry_after });
                }
                Err(Refused::Closed) => return Err(Verdict::Unavailable),
            }
        }
        Ok(slots)
    }

    /// Looks after the slots in use: gives back, renews. Runs as long as the worker.
    pub(super) async fn run(&self) {
        loop {
            self.opened.notified().await;
            while self.look(self.shared.clock.now()) {
                sleep(Duration::from_nanos(EVERY)).await;
            }
        }
    }

    /// Gives back all slots that no request has. The last thing a worker does.
    pub(super) async fn leave(&self) {
        let Some(link) = &self.link else { return };
        let listed = std::mem::take(&mut *self.open.borrow_mut());
        let mut told = Vec::new();
        for room in listed {
            let under_way = room.call.borrow().clone();
            if let Some(call) = under_way {
                call.landed().await;
                self.collect(&room);
            }
            told.extend(self.ask(link, &room, 0));
        }
        for call in told {
            call.landed().await;
        }
    }

    fn find(&self, policy: &Policy<'_, NonZeroU32>) -> Rc<Room> {
        let Policy { subject, scope, measure, .. } = *policy;
        self.rooms.find(subject, scope, |spot| {
            let name = scope.slots(&self.shared.environment, subject);
            Room {
                spot,
                label: self.labels.find(scope),
                here: self.shared.under_way.find(&name),
                name: name.into(),
                slots: RefCell::new(Slots::new(measure.get().into())),
                call: RefCell::default(),
                waiting: Waiters::default(),
                is_listed: Cell::new(false),
            }
        })
    }

    async fn take(
        &self,
        room: &Rc<Room>,
        policy: &Policy<'_, NonZeroU32>,
        looks: u32,
    ) -> Result<Slot, Refused> {
        let limit = policy.measure.get().into();
        let Some(link) = &self.link else {
            return room.take_here(Some(limit)).ok_or(Refused::Full);
        };
        let _waiting = room.waiting.join();
        let mut looked = 0;
        while let Some(epoch) = link.epoch() {
            self.collect(room);
            let now = self.shared.clock.now();
            let (stock, next_look) = {
                let mut slots = room.slots.borrow_mut();
                slots.follow(limit, epoch);
                (slots.take(now), slots.next_look())
            };
            if stock == Stock::Held {
                return Ok(room.began());
            }
            if looked == looks {
                return Err(Refused::Full);
            }
            let under_way = room.call.borrow().clone();
            if under_way.is_none() && stock == Stock::Empty {
                sleep(Duration::from_nanos(next_look.saturating_sub(now))).await;
                continue;
            }
            looked += 1;
            let Some(call) = under_way.or_else(|| self.ask(link, room, room.waiting.count()))
            else {
                break;
            };
            if !call.landed().await {
                break;
            }
        }
        let slot = match policy.fallback {
            Fallback::Closed => return Err(Refused::Closed),
            Fallback::Open => room.take_here(None),
            Fallback::LocalShare => room.take_here(Some(share(limit, self.shared.nodes.sharing()))),
        };
        let slot = slot.ok_or(Refused::Full)?;
        self.list(room);
        Ok(slot)
    }

    fn ask(&self, link: &Link, room: &Rc<Room>, waiting: u64) -> Option<Arc<Call>> {
        let now = self.shared.clock.now();
        let mut slots = room.slots.borrow_mut();
        let want = slots.ask(now, waiting, self.shared.crowd());
        let (holder, limit, life) = (self.holder, slots.limit(), LIFE / 1_000_000);
        let asks = Reservation { holder, limit, want, life };
        let call = link.reserve(room.name.clone(), asks, now)?;
        drop(slots);
        room.call.replace(Some(call.clone()));
        self.list(room);
        Some(call)
    }

    /// Takes what came for a room, if it is there.
    fn collect(&self, room: &Rc<Room>) {
        let mut under_way = room.call.borrow_mut();
        let Some(call) = under_way.as_ref() else { return };
        let Some(answer) = call.answer() else { return };
        if let Some(landing) = answer {
            room.slots.borrow_mut().grant(landing.grants, call.epoch, call.sent);
        }
        *under_way = None;
        drop(under_way);
        self.list(room);
    }

    fn list(&self, room: &Rc<Room>) {
        let is_in_use = room.slots.borrow().is_in_use() || room.call.borrow().is_some();
        if is_in_use && !room.is_listed.replace(true) {
            self.open.borrow_mut().push(room.clone());
            self.opened.notify_one();
        }
    }

    /// False: no room has anything to look after.
    fn look(&self, now: u64) -> bool {
        let listed = std::mem::take(&mut *self.open.borrow_mut());
        for room in listed {
            room.is_listed.set(false);
            self.collect(&room);
            let is_due = room.slots.borrow().is_due(now, self.shared.crowd());
            if let Some(link) = &self.link
                && let Some(epoch) = link.epoch()
                && room.call.borrow().is_none()
                && is_due
            {
                room.slots.borrow_mut().reconnect(epoch);
                self.ask(link, &room, room.waiting.count());
            }
            self.list(&room);
        }
        !self.open.borrow().is_empty()
    }
}

impl Room {
    /// Takes a slot that is counted on this node alone; at most so many.
    fn take_here(self: &Rc<Self>, most: Option<u64>) -> Option<Slot> {
        let one_more = |here: u64| most.is_none_or(|most| here < most).then_some(here + 1);
        self.here.fetch_update(AcqRel, Acquire, one_more).ok()?;
        self.slots.borrow_mut().take_without_redis();
        Some(Slot(self.clone()))
    }

    /// The slot of a request that has one of those granted.
    fn began(self: &Rc<Self>) -> Slot {
        self.here.fetch_add(1, AcqRel);
        Slot(self.clone())
    }
}

impl Keep for Room {
    fn spot(&self) -> &Spot {
        &self.spot
    }

    fn is_needed(&self) -> bool {
        let is_under_way = |call: &Arc<Call>| call.answer().is_none();
        self.waiting.count() > 0
            || self.slots.borrow().is_in_use()
            || self.call.borrow().as_ref().is_some_and(is_under_way)
    }
}

/// How many requests of each bucket are under way on this node.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    counts: HashMap<Box<str>, Weak<AtomicU64>>,
    /// Counts nobody holds are thrown out when there are so many.
    bound: usize,
}

impl UnderWay {
    /// The count of a bucket.
    pub(super) fn find(&self, name: &str) -> Arc<AtomicU64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counted.counts.get(name).and_then(Weak::upgrade) {
            return count;
        }
        if counted.counts.len() >= counted.bound {
            counted.counts.retain(|_, count| count.strong_count() > 0);
            counted.bound = (counted.counts.len() * 2).max(1024);
        }
        let count = Arc::default();
        counted.counts.insert(name.into(), Arc::downgrade(&count));
        count
    }
}
