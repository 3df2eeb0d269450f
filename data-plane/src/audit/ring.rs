//! From a worker thread to the collector: one bounded ring per worker, without locks or waiting.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rtrb::{Consumer, Producer, RingBuffer};

use super::{Event, tally::Counts};

/// A worker's end of its ring.
pub(crate) struct Recorder {
    // Borrowed for the length of one push, which calls nothing that could borrow it again.
    ring: RefCell<Producer<Event>>,
    counts: &'static Counts,
    /// `None`: what finds no room is dropped.
    gate: Option<Arc<Gate>>,
    /// Whether the ring is left to the requests under way, as nobody empties it.
    is_tight: Cell<bool>,
    /// Room for those.
    reserve: usize,
    #[cfg(test)]
    allocations: Arc<std::sync::atomic::AtomicU64>,
}

/// Whether requests may come whose events could not be kept. Read for every request by all
/// workers, and written only when that changes.
#[derive(Default, Debug)]
pub(super) struct Gate {
    is_shut: AtomicBool,
}

impl Gate {
    pub(super) fn set_shut(&self, is_shut: bool) {
        // A store takes the cache line away from all workers.
        if self.is_shut.load(Relaxed) != is_shut {
            self.is_shut.store(is_shut, Relaxed);
        }
    }
}

/// A ring for `capacity` events, counted in memory: the worker's end and the collector's.
#[cfg(any(test, feature = "bench"))]
pub(crate) fn ring(capacity: usize) -> (Recorder, Tap) {
    ring_of(capacity, Counts::new(), None)
}

/// The same while no event can be kept.
#[cfg(test)]
pub(crate) fn full_ring(capacity: usize) -> (Recorder, Tap) {
    ring_of(capacity, Counts::new(), Some(Arc::new(Gate { is_shut: true.into() })))
}

/// A ring for `capacity` events: the worker's end and the collector's.
pub(super) fn ring_of(
    capacity: usize,
    counts: &'static Counts,
    gate: Option<Arc<Gate>>,
) -> (Recorder, Tap) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let recorder = Recorder {
        ring: RefCell::new(producer),
        counts,
        gate,
        is_tight: Cell::new(false),
        reserve: capacity / 4,
        #[cfg(test)]
        allocations: Arc::default(),
    };
    let tap = Tap {
        ring: consumer,
        counts,
        dropped_seen: 0,
        #[cfg(test)]
        allocations: recorder.allocations.clone(),
    };
    (recorder, tap)
}

impl Recorder {
    /// Whether the event of a request that begins now can be kept.
    pub(crate) fn has_room(&self) -> bool {
        let Some(gate) = &self.gate else { return true };
        !gate.is_shut.load(Relaxed) && (!self.is_tight.get() || self.is_emptied())
    }

    /// Whether the ring is emptied again that was nearly full.
    #[cold]
    fn is_emptied(&self) -> bool {
        let is_tight = self.ring.try_borrow().is_ok_and(|ring| ring.slots() < self.reserve);
        self.is_tight.set(is_tight);
        !is_tight
    }

    /// Hands an event to the collector, or drops and counts it where the ring is full.
    pub(crate) fn record(&self, event: Event) {
        // Counted first: whenever the process is killed, an event that is nowhere is counted.
        self.counts.count_produced();
        let taken = self.ring.try_borrow_mut().is_ok_and(|mut ring| {
            let taken = ring.push(event).is_ok();
            // What is known of the ring without asking the other thread says enough most times.
            if ring.cached_slots() < self.reserve && ring.slots() < self.reserve {
                self.is_tight.set(true);
            }
            taken
        });
        if !taken {
            self.counts.count_dropped();
        }
        #[cfg(test)]
        self.allocations.store(crate::allocations::of_this_thread(), Relaxed);
    }

    /// Counts an event as dropped: that of a request refused because there is no room for it.
    pub(crate) fn drop_one(&self) {
        self.counts.count_produced();
        self.counts.count_dropped();
    }
}

/// The collector's end of a ring.
pub(crate) struct Tap {
    ring: Consumer<Event>,
    counts: &'static Counts,
    dropped_seen: u64,
    /// Heap allocations of the worker's thread when it recorded its last event.
    #[cfg(test)]
    allocations: Arc<std::sync::atomic::AtomicU64>,
}

impl Tap {
    /// Heap allocations of the worker up to its last event.
    #[cfg(test)]
    pub(crate) fn allocations(&self) -> u64 {
        self.allocations.load(Relaxed)
    }

    /// The oldest event in the ring.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.ring.pop().ok()
    }

    /// How many events are in the ring.
    pub(super) fn len(&self) -> usize {
        self.ring.slots()
    }

    /// Whether nothing more can come: the worker has ended and its ring is empty.
    pub(super) fn is_exhausted(&self) -> bool {
        // In this order: an event pushed after the ring was seen empty is not missed.
        self.ring.is_abandoned() && self.ring.is_empty()
    }

    /// How many events were dropped since this was last asked.
    pub(super) fn newly_dropped(&mut self) -> u64 {
        let dropped = self.counts.dropped();
        let new = dropped - self.dropped_seen;
        self.dropped_seen = dropped;
        new
    }

    /// Notes that of the dropped ones seen so far a batch on disk tells.
    pub(super) fn tell(&self) {
        if self.dropped_seen > 0 {
            self.counts.tell(self.dropped_seen);
        }
    }

    /// The counts of the worker behind it.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> &'static Counts {
        self.counts
    }
}
