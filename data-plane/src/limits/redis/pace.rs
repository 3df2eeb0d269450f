//! How fast Redis answers, and when that is too slow.
//!
//! Time is counted in steps, as the thread that waits lives through them. Where one took much longer
//! than it should, this thread was held up or the machine is busy, which says nothing of Redis: what
//! came late may have been there for long. So an answer is late that was waited for over two steps and
//! more, none of them held up, and Redis is too slow when it answers late again and again: each time a
//! call that was sent after the late answer before, and none in time in between. Of a call that stood
//! in a queue, or had one behind it, it can't be said: Redis may have answered one after another as
//! fast as ever, or all of them together. One server of a cluster that is slow alone passes.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::time::timeout;

/// The time calls are waited for, piece by piece.
pub(super) const STEP: Duration = Duration::from_millis(5);

/// In a step that took longer the thread was held up. Timers are a millisecond late, and seldom two.
const HELD_UP: Duration = Duration::from_micros(7_500);

/// The budget of a call, 10 ms in nanoseconds: an answer that takes longer is late.
const BUDGET: u64 = 10_000_000;

/// The same in steps.
const BUDGET_STEPS: u32 = 2;

/// So many late answers one after the other are too slow; so many in time are prompt again. Fewer would
/// do, but for a machine whose cores are all busy: there Redis waits for its turn too.
pub(super) const IN_A_ROW: u32 = 6;

/// More calls under way than this are a queue.
const QUEUE: usize = 32;

/// One answer in so many makes the smoothed time what it took: where it took longer. Outliers are of a
/// busy machine, and one that takes less shows how near Redis is.
const SMOOTHING: u64 = 16;

/// How one connection answers. Written by the thread it belongs to.
#[derive(Default)]
pub(super) struct Pace {
    /// Calls that are waited for.
    under_way: AtomicUsize,
    /// Smoothed, in nanoseconds.
    answer_time: AtomicU64,
    /// Late answers in a row.
    late: AtomicU32,
    /// When the last of them came.
    late_at: AtomicU64,
}

/// Waiting for one answer.
pub(super) struct Wait<'a> {
    pace: &'a Pace,
    begun: Instant,
    is_in_queue: bool,
    steps: u32,
    /// Whether the thread was held up in one of them.
    is_held_up: bool,
}

impl Pace {
    /// How long an answer takes of late, in nanoseconds.
    pub(super) fn answer_time(&self) -> u64 {
        self.answer_time.load(Relaxed)
    }

    /// Begins anew, with another connection.
    pub(super) fn begin(&self) {
        self.answer_time.store(0, Relaxed);
        self.late.store(0, Relaxed);
    }

    /// Begins to wait.
    pub(super) fn wait(&self) -> Wait<'_> {
        let is_in_queue = self.under_way.fetch_add(1, Relaxed) >= QUEUE;
        Wait { pace: self, begun: Instant::now(), is_in_queue, steps: 0, is_held_up: false }
    }

    fn smooth(&self, took: u64) {
        let before = self.answer_time();
        let after = match took.checked_sub(before) {
            Some(more) => before + more / SMOOTHING,
            None => before.midpoint(took),
        };
        self.answer_time.store(after, Relaxed);
    }
}

impl Wait<'_> {
    /// Goes on with a call for one step; `None`: there is no answer yet.
    pub(super) async fn step<T>(&mut self, call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let begun = Instant::now();
        let answer = timeout(STEP, call).await.ok();
        if answer.is_none() {
            self.steps += 1;
            self.is_held_up |= begun.elapsed() > HELD_UP;
        }
        answer
    }

    /// Notes the answer, which came now to a call sent then. True: Redis is too slow.
    pub(super) fn is_too_slow(&self, sent: u64, now: u64) -> bool {
        let took = now.saturating_sub(sent).min(BUDGET);
        self.pace.smooth(took);
        if took < BUDGET {
            self.pace.late.store(0, Relaxed);
        }
        if !self.is_late() || self.pace.under_way.load(Relaxed) > QUEUE {
            return false;
        }
        let mut late = self.pace.late.load(Relaxed);
        if late == 0 || sent >= self.pace.late_at.load(Relaxed) {
            late += 1;
            self.pace.late_at.store(now, Relaxed);
            self.pace.late.store(late, Relaxed);
        }
        late >= IN_A_ROW
    }

    /// Whether it takes longer than it may, and neither for what held the thread up nor for a queue.
    pub(super) fn is_late(&self) -> bool {
        self.steps >= BUDGET_STEPS && !self.is_held_up && !self.is_in_queue
    }

    /// Whether it took no longer than it may, whatever it was that took the time.
    pub(super) fn is_in_time(&self) -> bool {
        self.begun.elapsed().as_nanos() < BUDGET.into()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.pace.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use super::*;

    const MILLISECOND: u64 = 1_000_000;
    /// A wait that went on for some steps.
    fn waited(pace: &Pace, steps: u32) -> Wait<'_> {
        let mut wait = pace.wait();
        wait.steps = steps;
        wait
    }

    /// Whether an answer is one too many that came so long after its call, this thread not held up.
    fn is_too_slow(pace: &Pace, sent: u64, took: u64) -> bool {
        let steps = u32::try_from(took / (5 * MILLISECOND)).expect("not that long");
        waited(pace, steps).is_too_slow(sent, sent + took)
    }

    #[test]
    fn late_answers_are_too_many_when_they_come_one_after_the_other() {
        let pace = Pace::default();
        let most = u64::from(IN_A_ROW) - 1;
        let late = |number: u64| is_too_slow(&pace, number * 20 * MILLISECOND, 20 * MILLISECOND);
        assert!(!(0..most).any(late));
        assert!(late(most));
        pace.begin();
        assert!(!(100..100 + most).any(late), "another connection");
        assert!(!is_too_slow(&pace, 199 * 20 * MILLISECOND, MILLISECOND));
        assert!(!(200..200 + most).any(late), "one came in time");
        let mut held_up = waited(&pace, 4);
        held_up.is_held_up = true;
        assert!(!held_up.is_too_slow(218 * 20 * MILLISECOND, 219 * 20 * MILLISECOND));
        assert!(late(220), "and of one it is not known");
    }

    #[test]
    fn calls_that_are_sent_together_are_late_once_and_a_queue_never() {
        let pace = Pace::default();
        let together = |sent: u64| (0..10).any(|_| is_too_slow(&pace, sent, 20 * MILLISECOND));
        let mut rounds = (0..100).map(|round| together(round * 20 * MILLISECOND));
        assert_eq!(rounds.position(|is_too_slow| is_too_slow), Some(IN_A_ROW as usize - 1));

        let pace = Pace::default();
        for sent in (0..100).map(|round| round * 20 * MILLISECOND) {
            let queue: Vec<_> = (0..=2 * QUEUE).map(|_| waited(&pace, 4)).collect();
            let mut queue = queue.into_iter();
            assert!(!queue.any(|wait| wait.is_too_slow(sent, sent + 20 * MILLISECOND)));
        }
    }

    #[test]
    fn the_answer_time_follows_in_some_answers_and_not_in_one() {
        let pace = Pace::default();
        let after = |count: u64, took: u64| {
            for _ in 0..count {
                assert!(!is_too_slow(&pace, 0, took));
            }
            pace.answer_time() / 1000
        };
        assert!((100..=200).contains(&after(50, MILLISECOND / 5)));
        assert!(after(1, 500 * MILLISECOND) < 1000, "one outlier");
        assert!((3_000..5_000).contains(&after(20, 5 * MILLISECOND)));
        assert!(after(5, MILLISECOND / 5) < 1000, "near again");
    }

    #[tokio::test]
    async fn a_thread_that_is_held_up_is_not_redis() {
        let pace = Pace::default();
        let mut wait = pace.wait();
        for _ in 0..10 {
            let held_up = async { std::thread::sleep(HELD_UP) };
            let call = pin!(async { (held_up.await, pending::<()>().await) });
            assert!(wait.step(call).await.is_none());
        }
        assert!(!wait.is_late() && !wait.is_in_time());
        // Some of these may be held up too, on a busy machine.
        let mut is_late = false;
        for _ in 0..100 {
            let (mut call, mut wait) = (pin!(pending::<()>()), pace.wait());
            for _ in 0..BUDGET_STEPS {
                wait.step(call.as_mut()).await;
            }
            is_late |= wait.is_late();
        }
        assert!(is_late);
    }
}
