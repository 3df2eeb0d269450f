//! Requests of one bucket that a worker may have under way, and has.
//!
//! Pure: time is passed in, and what is to be asked of Redis comes out. Slots are a worker's until a
//! time, unless it asks again before; so those of a node that died are there again soon. A worker
//! holds no more than it has requests under way, and a few where there are many.

use super::{crowd::Crowd, lease::Stock};

const MILLISECOND: u64 = 1_000_000;

/// How long slots are good for, from when they were asked for.
pub(super) const LIFE: u64 = 10_000 * MILLISECOND;

/// A bucket is looked at once in this time: slots nobody needs are given back then, and whoever found
/// none learns whether there is one.
pub(super) const EVERY: u64 = 20 * MILLISECOND;

/// Slots that wait for the next request are a good of many: of each so many, one.
const PART: u64 = 8;

/// What a worker holds of one bucket.
#[derive(Debug)]
pub(super) struct Slots {
    /// How many there are, over all nodes.
    limit: u64,
    /// Number of the connection to Redis they were granted over.
    epoch: u32,
    /// Requests under way.
    used: u64,
    /// As many as may be.
    held: u64,
    /// Until then.
    ends: u64,
    /// When it was asked last; 0: never.
    asked_at: u64,
}

/// One node's share of so many slots; one at least, or nothing would ever pass.
pub(super) fn share(limit: u64, nodes: u64) -> u64 {
    (limit / nodes.max(1)).max(1)
}

impl Slots {
    /// None held.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, epoch: 0, used: 0, held: 0, ends: 0, asked_at: 0 }
    }

    /// Goes on with the limit there is now, over the connection there is now.
    pub(super) fn follow(&mut self, limit: u64, epoch: u32) {
        self.limit = limit;
        self.reconnect(epoch);
    }

    /// Goes on over the connection there is now, behind which there may be another Redis: what is
    /// under way is told to it at the next look.
    pub(super) fn reconnect(&mut self, epoch: u32) {
        if self.epoch != epoch {
            *self = Self { epoch, used: self.used, ..Self::new(self.limit) };
        }
    }

    /// Takes one for a request, if there is one at hand.
    pub(super) fn take(&mut self, now: u64) -> Stock {
        if self.used < self.held.min(self.limit) && now < self.ends {
            self.used += 1;
            Stock::Held
        } else if now < self.next_look() {
            Stock::Empty
        } else {
            Stock::Unknown
        }
    }

    /// Takes one that Redis was not asked for.
    pub(super) fn take_without_redis(&mut self) {
        self.used += 1;
    }

    /// Puts one back.
    pub(super) fn put_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// When it may be asked again.
    pub(super) fn next_look(&self) -> u64 {
        if self.asked_at == 0 { 0 } else { self.asked_at + EVERY }
    }

    /// How many it wants in all, with so many requests that wait. Those it has beyond that are others'
    /// as soon as Redis hears of it, so it takes none of them any more.
    pub(super) fn ask(&mut self, now: u64, waiting: u64, crowd: Crowd) -> u64 {
        self.asked_at = now;
        let want = self.used + waiting + self.spare(waiting, crowd);
        self.held = self.held.min(want);
        want
    }

    /// Takes what Redis gave for what was asked over the connection `epoch` at `sent`.
    pub(super) fn grant(&mut self, held: u64, epoch: u32, sent: u64) {
        if epoch == self.epoch {
            (self.held, self.ends) = (held, sent + LIFE);
        }
    }

    /// Whether it is time to ask again though nobody waits: to give back, to go on, or to say what is
    /// under way.
    pub(super) fn is_due(&self, now: u64, crowd: Crowd) -> bool {
        now >= self.next_look()
            && (self.held > self.used + self.spare(0, crowd)
                || self.used > self.held
                || self.used > 0 && self.ends < now + LIFE / 2)
    }

    /// Whether there is anything to look at from time to time.
    pub(super) fn is_in_use(&self) -> bool {
        self.used + self.held > 0
    }

    /// How many there are, over all nodes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// How many may wait for a request, while there are some under way.
    fn spare(&self, waiting: u64, crowd: Crowd) -> u64 {
        if self.used + waiting == 0 { 0 } else { self.limit / PART / crowd.size() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Crowd = Crowd { nodes: 1, workers: 1 };

    fn slots(limit: u64) -> Slots {
        let mut slots = Slots::new(limit);
        slots.follow(limit, 1);
        slots
    }

    #[test]
    fn as_many_are_taken_as_were_granted_and_the_next_look_is_later() {
        let (mut slots, now) = (slots(3), MILLISECOND);
        assert_eq!(slots.take(now), Stock::Unknown);
        assert_eq!(slots.ask(now, 5, ALONE), 5);
        slots.grant(3, 1, now);
        let taken: Vec<_> = (0..4).map(|_| slots.take(now)).collect();
        assert_eq!(taken, [Stock::Held, Stock::Held, Stock::Held, Stock::Empty]);
        assert_eq!(slots.used, 3);
        assert_eq!(slots.take(now + EVERY), Stock::Unknown);
        slots.put_back();
        assert_eq!(slots.take(now), Stock::Held, "one that is put back is there at once");
    }

    #[test]
    fn what_is_not_needed_is_given_back_and_what_is_needed_renewed() {
        let (mut slots, mut now) = (slots(80), MILLISECOND);
        assert_eq!(slots.ask(now, 1, ALONE), 11, "one of each eight may wait");
        slots.grant(11, 1, now);
        assert_eq!(slots.take(now), Stock::Held);
        now += EVERY;
        assert!(!slots.is_due(now, ALONE));
        assert!(slots.is_due(now + LIFE / 2, ALONE), "to be renewed");
        slots.put_back();
        assert!(slots.is_due(now, ALONE), "to be given back");
        assert_eq!(slots.ask(now, 0, ALONE), 0);
        slots.grant(0, 1, now);
        assert!(!slots.is_in_use());
    }

    #[test]
    fn what_is_being_given_back_is_taken_no_more() {
        let (mut slots, now) = (slots(5), MILLISECOND);
        assert_eq!(slots.ask(now, 5, ALONE), 5);
        slots.grant(5, 1, now);
        assert_eq!(slots.take(now), Stock::Held);
        assert_eq!(slots.ask(now + EVERY, 0, ALONE), 1);
        assert_eq!(slots.take(now + EVERY), Stock::Empty, "by now another one may have it");
        slots.put_back();
        assert_eq!(slots.take(now + EVERY), Stock::Held);
    }

    #[test]
    fn what_is_under_way_is_told_to_another_redis() {
        let (mut slots, now) = (slots(3), MILLISECOND);
        slots.ask(now, 2, ALONE);
        slots.grant(2, 1, now);
        assert_eq!(slots.take(now), Stock::Held);
        slots.follow(3, 2);
        slots.grant(2, 1, now);
        assert_eq!(slots.take(now), Stock::Unknown, "granted by the one before");
        assert!(slots.is_due(now, ALONE));
        assert_eq!(slots.ask(now, 0, ALONE), 1);
    }

    #[test]
    fn slots_end_unless_asked_for_again() {
        let (mut slots, now) = (slots(3), MILLISECOND);
        slots.ask(now, 2, ALONE);
        slots.grant(2, 1, now);
        assert_eq!(slots.take(now + LIFE), Stock::Unknown);
    }
}
