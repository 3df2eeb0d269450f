//! One worker's deadlines: of answers, of pieces of bodies.
//!
//! Nearly all of them are never reached, so that what counts is what it costs to set one and to
//! forget it. They stand in one list that is looked through a hundred times a second while there
//! is anything in it. A timer of the runtime for each would cost several times as much.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// How much later than its deadline a timer may go off.
const TICK: Duration = Duration::from_millis(10);

/// The deadlines of one worker.
#[derive(Default)]
pub(crate) struct Timers {
    // Borrowed for single calls below; wakers are woken, which runs nothing at once.
    list: RefCell<List>,
    /// Told when there is something to look through again.
    filled: Notify,
}

#[derive(Default)]
struct List {
    places: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// Whether it is being looked through.
    is_watched: bool,
}

struct Entry {
    deadline: Instant,
    is_over: bool,
    waker: Waker,
}

impl Timers {
    /// Wakes whoever waits for a deadline that has passed. Runs as long as the worker.
    pub(crate) async fn run(&self) {
        loop {
            self.filled.notified().await;
            loop {
                sleep(TICK).await;
                if !self.look_through(Instant::now()) {
                    break;
                }
            }
        }
    }

    /// False: there is nothing in the list any more.
    fn look_through(&self, now: Instant) -> bool {
        let mut list = self.list.borrow_mut();
        for entry in list.places.iter_mut().flatten() {
            if !entry.is_over && entry.deadline <= now {
                entry.is_over = true;
                entry.waker.wake_by_ref();
            }
        }
        list.is_watched = list.free.len() < list.places.len();
        if !list.is_watched {
            // Give back what a crowd has left behind.
            *list = List::default();
        }
        list.is_watched
    }
}

/// A deadline of one task. Dropping it forgets the deadline.
pub(crate) struct Timer {
    timers: Rc<Timers>,
    place: Option<usize>,
}

impl Timer {
    /// A timer that is not set.
    pub(crate) fn new(timers: &Rc<Timers>) -> Self {
        Self { timers: timers.clone(), place: None }
    }

    /// Ready when the deadline has passed; until then the task is woken when it does. The first
    /// call sets it, and `deadline` is asked again only when the one it gave has passed: what it
    /// says then counts.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, deadline: impl Fn() -> Instant) -> Poll<()> {
        let mut list = self.timers.list.borrow_mut();
        let List { places, free, is_watched } = &mut *list;
        let found = self.place.and_then(|place| places.get_mut(place)).and_then(Option::as_mut);
        if let Some(entry) = found {
            if entry.is_over {
                entry.deadline = deadline();
                if entry.deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                entry.is_over = false;
            }
            entry.waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        let entry = Entry { deadline: deadline(), is_over: false, waker: cx.waker().clone() };
        let place = free.pop().unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        if let Some(free_place) = places.get_mut(place) {
            *free_place = Some(entry);
        }
        self.place = Some(place);
        if !*is_watched {
            *is_watched = true;
            self.timers.filled.notify_one();
        }
        Poll::Pending
    }

    /// Ready when this much time has passed since the first call after the timer was made or
    /// cleared.
    pub(crate) fn poll_after(&mut self, cx: &Context<'_>, patience: Duration) -> Poll<()> {
        let set = self.place.is_some();
        self.poll(cx, || if set { Instant::now() } else { Instant::now() + patience })
    }

    /// Forgets the deadline.
    pub(crate) fn clear(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut list = self.timers.list.borrow_mut();
        if let Some(taken) = list.places.get_mut(place) {
            *taken = None;
            list.free.push(place);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, pin::pin};

    use super::*;

    fn with_timers<T>(talk: impl AsyncFnOnce(Rc<Timers>) -> T) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().expect("a runtime").block_on(async {
            let timers = Rc::new(Timers::default());
            let mut run = pin!(timers.run());
            let mut talk = pin!(talk(timers.clone()));
            poll_fn(|cx| {
                assert!(run.as_mut().poll(cx).is_pending());
                talk.as_mut().poll(cx)
            })
            .await
        })
    }

    #[test]
    fn a_timer_goes_off_at_its_deadline_and_not_before() {
        with_timers(async |timers| {
            for millis in [0, 1, 25, 120] {
                let began = Instant::now();
                let deadline = began + Duration::from_millis(millis);
                let mut timer = Timer::new(&timers);
                poll_fn(|cx| timer.poll(cx, || deadline)).await;
                let waited = began.elapsed();
                assert!(waited >= Duration::from_millis(millis), "{millis}: {waited:?}");
                assert!(waited < Duration::from_secs(2), "{millis}: {waited:?}");
            }
        });
    }

    #[test]
    fn a_deadline_that_moved_on_is_kept() {
        with_timers(async |timers| {
            let began = Instant::now();
            let deadline = Cell::new(began + Duration::from_millis(50));
            let mut timer = Timer::new(&timers);
            let first = poll_fn(|cx| Poll::Ready(timer.poll(cx, || deadline.get()))).await;
            assert!(first.is_pending());
            deadline.set(began + Duration::from_millis(200));
            poll_fn(|cx| timer.poll(cx, || deadline.get())).await;
            assert!(began.elapsed() >= Duration::from_millis(200));
        });
    }

    #[test]
    fn forgotten_deadlines_leave_nothing_behind() {
        with_timers(async |timers| {
            for _ in 0..3 {
                let mut many: Vec<_> = (0..100).map(|_| Timer::new(&timers)).collect();
                for timer in &mut many {
                    let far = Instant::now() + Duration::from_secs(60);
                    assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx, || far))).await.is_pending());
                }
            }
            assert_eq!(timers.list.borrow().places.len(), 100);
            sleep(2 * TICK).await;
            assert_eq!(timers.list.borrow().places.capacity(), 0);
        });
    }
}
