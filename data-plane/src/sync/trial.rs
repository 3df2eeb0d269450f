//! Config on trial: for a while after it was taken into use, requests that make a worker panic are held
//! against it.
//!
//! A panic costs the connection it happens on and no other, so nothing dies of it that a crash guard would
//! see. Two of them soon after a change, and none shortly before, are the fault of the change: it is taken
//! back, with those that came since. Keys are never on trial: whatever happens, a revocation stays.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Holding;

/// How long. A panic later than that is held against nothing, so that nobody who found out how to cause
/// one can take back what is old.
pub(super) const TRIAL: Duration = Duration::from_secs(30);

/// Panics that are more than chance.
const ENOUGH: u32 = 2;

/// Changes on trial at a time. Of more that come so fast, the oldest is tried no longer.
const MOST: usize = 16;

/// The trials under way.
#[derive(Default)]
pub(super) struct Trials {
    /// The oldest first. Each change is judged by the requests that were served from it.
    current: VecDeque<Trial>,
    /// When a request panicked last that was held against nothing.
    last_panic: Option<Instant>,
    /// What was taken back last: revisions above the first, up to the second.
    taken_back: Option<(u64, u64)>,
}

struct Trial {
    since: Instant,
    revision: u64,
    /// What was in force before.
    before: Holding,
    panics: u32,
    /// Requests panicked before it, too.
    is_excused: bool,
}

impl Trials {
    /// Notes that this revision is in force in place of what was before.
    pub(super) fn begin(&mut self, revision: u64, before: Option<Holding>, now: Instant) {
        self.settle(now);
        self.taken_back = None;
        let Some(before) = before.filter(|before| before.revision < revision) else {
            // Of another time: nothing that was held then is anything to go back to.
            return self.current.clear();
        };
        let is_excused =
            self.last_panic.is_some_and(|last| now.saturating_duration_since(last) < TRIAL);
        if self.current.len() >= MOST {
            self.current.pop_front();
        }
        self.current.push_back(Trial { since: now, revision, before, panics: 0, is_excused });
    }

    /// Notes that a request panicked that was served from this revision. What to go back to, if that was
    /// once too often: to before the change it was served from, and so to before all that came since.
    pub(super) fn panicked(&mut self, revision: u64, now: Instant) -> Option<Holding> {
        self.settle(now);
        // It began before that.
        if self.taken_back.is_some_and(|(from, to)| from < revision && revision <= to) {
            return None;
        }
        let is_it = |trial: &Trial| trial.revision == revision && !trial.is_excused;
        let Some(at) = self.current.iter().position(is_it) else {
            self.last_panic = Some(now);
            return None;
        };
        let trial = self.current.get_mut(at)?;
        trial.panics += 1;
        if trial.panics < ENOUGH {
            return None;
        }
        let newest = self.current.back().map_or(revision, |trial| trial.revision);
        let before = self.current.drain(at..).next()?.before;
        self.taken_back = Some((before.revision, newest));
        Some(before)
    }

    /// Ends the trials that have lasted long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        let is_over = |trial: &Trial| now.saturating_duration_since(trial.since) >= TRIAL;
        while self.current.front().is_some_and(is_over) {
            self.current.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(revision: u64) -> Option<Holding> {
        Some(Holding::empty("e1", revision))
    }

    fn back(to: Option<Holding>) -> Option<u64> {
        to.map(|to| to.revision)
    }

    #[test]
    fn two_panics_soon_after_a_change_take_it_back() {
        let now = Instant::now();
        let mut trials = Trials::default();
        trials.begin(5, held(4), now);
        assert_eq!(back(trials.panicked(5, now)), None);
        assert_eq!(back(trials.panicked(5, now)), Some(4));
        // One that began before that says nothing of what comes next.
        assert_eq!(back(trials.panicked(5, now)), None);
        trials.begin(6, held(4), now);
        assert_eq!(back(trials.panicked(6, now)).or(back(trials.panicked(6, now))), Some(4));
    }

    #[test]
    fn each_change_is_judged_by_its_own_requests_and_takes_later_ones_with_it() {
        let now = Instant::now();
        let after = |last: u64, panics: &[u64]| {
            let mut trials = Trials::default();
            (5..=last).for_each(|revision| trials.begin(revision, held(revision - 1), now));
            panics.iter().map(|revision| back(trials.panicked(*revision, now))).collect::<Vec<_>>()
        };
        assert_eq!(after(6, &[6, 6]), [None, Some(5)], "5 did no harm");
        assert_eq!(after(7, &[5, 7, 5]), [None, None, Some(4)]);
        // What remains goes on failing, until that is gone as well.
        assert_eq!(after(7, &[7, 7, 6, 6, 5, 5]), [None, Some(6), None, Some(5), None, Some(4)]);
        let many = 5 + MOST as u64;
        assert_eq!(after(many, &[5, 5]), [None, None], "too long ago");
        assert_eq!(after(many, &[6, 6]), [None, Some(5)]);
    }

    #[test]
    fn what_is_old_or_was_so_before_is_not_blamed() {
        let now = Instant::now();
        let mut trials = Trials::default();
        trials.begin(1, None, now);
        assert_eq!(back(trials.panicked(1, now)).or(back(trials.panicked(1, now))), None);
        trials.begin(2, held(1), now + TRIAL / 2);
        for _ in 0..3 {
            assert_eq!(back(trials.panicked(2, now + TRIAL / 2)), None, "1 panicked as well");
        }
        let later = now + TRIAL * 3;
        trials.begin(3, held(2), later);
        for _ in 0..3 {
            assert_eq!(back(trials.panicked(3, later + TRIAL)), None, "it has served for long");
        }
        // An earlier revision, of a database that was set back.
        let later = later + TRIAL * 3;
        trials.begin(2, held(3), later);
        for _ in 0..3 {
            assert_eq!(back(trials.panicked(2, later)), None);
        }
    }
}
