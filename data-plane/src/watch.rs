//! What a client connection is doing, and what it is told to do.
//!
//! Connections keep no timers. Each notes what it is doing in a [`Watch`]; its worker looks
//! through all of them twice a second and ends the ones that overdo it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::settings::Settings;

/// How long a connection without requests may take to end once it was asked to.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a client that is still sending is listened to after an answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is doing. Written by the connection, read by its worker's patrol.
pub(crate) struct Watch {
    doing: Cell<Doing>,
    /// Requests whose answer is not out yet.
    requests: Cell<u32>,
    /// Since when the client takes nothing of what is written to it.
    blocked: Cell<Option<Instant>>,
    /// Since when it is asked to end.
    finishing: Cell<Option<Instant>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy)]
enum Doing {
    /// Nothing since.
    Idle(Instant),
    /// It began to send a request head.
    Head {
        since: Instant,
        /// What it would go back to if that turns out to be none.
        idle_since: Instant,
    },
    /// It serves requests.
    Requests,
    /// What still comes of an answered request is thrown away, so that the answer is not.
    Lingering(Instant),
}

/// What a connection is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing else than it does.
    GoOn,
    /// Refuse the head that does not come to an end.
    RefuseHead,
    /// Finish what is under way, and take nothing new.
    Finish,
    /// End now.
    Abort,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            doing: Cell::new(Doing::Idle(now)),
            requests: Cell::new(0),
            blocked: Cell::new(None),
            finishing: Cell::new(None),
            order: Cell::new(Order::GoOn),
            waker: RefCell::default(),
        })
    }

    /// Ends the connection if it has been idle, sending one head or taking nothing for too long.
    pub(crate) fn patrol(&self, now: Instant, settings: &Settings) {
        let is_over = |since: Instant, timeout| now.saturating_duration_since(since) > timeout;
        if self.blocked.get().is_some_and(|since| is_over(since, settings.body_timeout)) {
            return self.give(Order::Abort);
        }
        let was_asked_to_end = self.finishing.get().is_some_and(|since| is_over(since, FAREWELL));
        match self.doing.get() {
            Doing::Idle(_) | Doing::Head { .. } if was_asked_to_end => self.give(Order::Abort),
            Doing::Idle(since) if is_over(since, settings.keep_alive_timeout) => self.finish(),
            Doing::Head { since, .. } if is_over(since, settings.header_timeout) => {
                self.give(Order::RefuseHead);
            }
            Doing::Lingering(since) if is_over(since, LINGER) => self.give(Order::Abort),
            Doing::Idle(_) | Doing::Head { .. } | Doing::Requests | Doing::Lingering(_) => {}
        }
    }

    /// Asks the connection to finish what is under way and close.
    pub(crate) fn finish(&self) {
        self.finishing.set(self.finishing.get().or_else(|| Some(Instant::now())));
        self.give(Order::Finish);
    }

    /// Whether it was asked to.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get().is_some()
    }

    /// Notes a request, until what is returned is dropped.
    pub(crate) fn request(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.doing.set(Doing::Requests);
        Busy { watch: self.clone(), ends: Cell::new(None) }
    }

    /// Notes that a head began and has not come to its end yet.
    pub(crate) fn began_head(&self) {
        let idle_since = match self.doing.get() {
            Doing::Head { .. } => return,
            Doing::Idle(since) => Some(since),
            Doing::Requests | Doing::Lingering(_) => None,
        };
        let since = Instant::now();
        self.doing.set(Doing::Head { since, idle_since: idle_since.unwrap_or(since) });
    }

    /// Notes that what had begun has come to its end. It was no request, so that the time without
    /// one goes on.
    pub(crate) fn ended_head(&self) {
        if let Doing::Head { idle_since, .. } = self.doing.get() {
            self.doing.set(Doing::Idle(idle_since));
        }
    }

    /// Notes that what still comes is thrown away from now on.
    pub(crate) fn lingers(&self) {
        if !matches!(self.doing.get(), Doing::Lingering(_)) {
            self.doing.set(Doing::Lingering(Instant::now()));
        }
    }

    /// Notes that the next request is waited for.
    pub(crate) fn is_idle(&self) {
        self.doing.set(Doing::Idle(Instant::now()));
    }

    /// Notes whether the client took what was written.
    pub(crate) fn wrote<T>(&self, outcome: &Poll<T>) {
        match outcome {
            Poll::Ready(_) => self.blocked.set(None),
            Poll::Pending if self.blocked.get().is_none() => self.blocked.set(Some(Instant::now())),
            Poll::Pending => {}
        }
    }

    /// What to do. The connection is woken when that changes.
    pub(crate) fn poll_order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.order.get()
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A request under way on a connection.
pub(crate) struct Busy {
    watch: Rc<Watch>,
    /// When it ended, where that is known.
    ends: Cell<Option<Instant>>,
}

impl Busy {
    /// Says when it ended, so that the clock need not be read once more.
    pub(crate) fn ends_at(&self, now: Instant) {
        self.ends.set(Some(now));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.watch.requests.get().saturating_sub(1);
        self.watch.requests.set(left);
        if left == 0 {
            let since = self.ends.get().unwrap_or_else(Instant::now);
            self.watch.doing.set(Doing::Idle(since));
        }
    }
}
