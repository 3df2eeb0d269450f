//! From a worker thread to the shipper: one bounded ring per worker, without locks or waiting.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rtrb::{Consumer, Producer, RingBuffer};

use super::Event;

/// A worker's end of its ring.
pub(crate) struct Recorder {
    // Borrowed for the length of one push, which calls nothing that could borrow it again.
    ring: RefCell<Producer<Event>>,
    counts: Arc<Counts>,
}

/// What became of the events of one worker. Written by the worker, read by anyone.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    produced: AtomicU64,
    dropped: AtomicU64,
    /// Heap allocations of the worker's thread when it recorded its last event.
    #[cfg(test)]
    allocations: AtomicU64,
}

/// A ring for `capacity` events: the worker's end and the shipper's.
pub(crate) fn ring(capacity: usize) -> (Recorder, Tap) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let counts = Arc::new(Counts::default());
    let recorder = Recorder { ring: RefCell::new(producer), counts: counts.clone() };
    (recorder, Tap { ring: consumer, counts, dropped_seen: 0 })
}

impl Recorder {
    /// Hands an event to the shipper, or drops and counts it where the ring is full.
    pub(crate) fn record(&self, event: Event) {
        let taken = self.ring.try_borrow_mut().is_ok_and(|mut ring| ring.push(event).is_ok());
        // Only this thread writes the counts, so that plain loads and stores do.
        if !taken {
            add_one(&self.counts.dropped);
        }
        #[cfg(test)]
        self.counts.allocations.store(crate::allocations::of_this_thread(), Relaxed);
        add_one(&self.counts.produced);
    }
}

fn add_one(count: &AtomicU64) {
    count.store(count.load(Relaxed) + 1, Relaxed);
}

impl Counts {
    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.produced.load(Relaxed)
    }

    /// Events lost because the ring was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// The shipper's end of a ring.
pub(crate) struct Tap {
    ring: Consumer<Event>,
    counts: Arc<Counts>,
    dropped_seen: u64,
}

impl Tap {
    /// Heap allocations of the worker up to its last event.
    #[cfg(test)]
    pub(crate) fn allocations(&self) -> u64 {
        self.counts.allocations.load(Relaxed)
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

    /// The counts of the worker behind it.
    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}
