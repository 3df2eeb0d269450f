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

use crate::{request_line::RequestLine, settings::Settings};

/// How long a client that is still sending is listened to after its last answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is doing. Written by the connection, read by its worker's patrol.
pub(crate) struct Watch {
    doing: Cell<Doing>,
    /// Requests whose answer is not out yet.
    requests: Cell<u32>,
    /// HTTP/2 sends frames of its own between requests, which say nothing.
    is_http2: Cell<bool>,
    /// Every answer so far is out: what hyper writes now is its own.
    is_silent: Cell<bool>,
    /// The client may still be sending the body of a request that was answered before its end.
    left_unread: Cell<bool>,
    /// How the request began whose head is being read, or was read last.
    request_line: RefCell<RequestLine>,
    /// Since when the client takes nothing of what is written to it.
    blocked: Cell<Option<Instant>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy)]
enum Doing {
    /// Nothing since.
    Idle(Instant),
    /// It began to send a request head.
    Head(Instant),
    /// It serves requests.
    Requests,
    /// All is said. What still comes is thrown away, so that the last answer is not.
    Lingering(Instant),
}

/// What a connection is to do.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Order {
    /// Nothing else than it does.
    GoOn,
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
            is_http2: Cell::new(false),
            is_silent: Cell::new(true),
            left_unread: Cell::new(false),
            request_line: RefCell::default(),
            blocked: Cell::new(None),
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
        match self.doing.get() {
            Doing::Idle(since) if is_over(since, settings.keep_alive_timeout) => self.finish(),
            Doing::Head(since) if is_over(since, settings.header_timeout) => {
                self.give(Order::Abort);
            }
            Doing::Lingering(since) if is_over(since, LINGER) => self.give(Order::Abort),
            Doing::Idle(_) | Doing::Head(_) | Doing::Requests | Doing::Lingering(_) => {}
        }
    }

    /// Asks the connection to finish what is under way and close.
    pub(crate) fn finish(&self) {
        self.give(Order::Finish);
    }

    /// Notes a request, until what is returned is dropped.
    pub(crate) fn request(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.doing.set(Doing::Requests);
        self.is_silent.set(false);
        self.left_unread.set(false);
        Busy(self.clone())
    }

    /// Shows how the request began whose head was read last, once: what is read next may have
    /// begun unseen.
    pub(crate) fn with_request_line<T>(&self, look: impl FnOnce(&RequestLine) -> T) -> T {
        let mut line = self.request_line.borrow_mut();
        let seen = look(&line);
        line.clear();
        seen
    }

    /// Notes that bytes came.
    pub(crate) fn received(&self, bytes: &[u8]) {
        if self.is_http2.get() {
            return;
        }
        if let Doing::Idle(_) = self.doing.get() {
            self.is_http2.set(bytes.starts_with(b"PRI * HTTP/2"));
            self.doing.set(Doing::Head(Instant::now()));
            self.request_line.borrow_mut().clear();
        }
        if let Doing::Head(_) = self.doing.get() {
            self.request_line.borrow_mut().extend(bytes);
        }
    }

    /// Notes whether the client took what was written.
    pub(crate) fn wrote<T>(&self, outcome: &Poll<T>) {
        match outcome {
            Poll::Ready(_) => self.blocked.set(None),
            Poll::Pending if self.blocked.get().is_none() => self.blocked.set(Some(Instant::now())),
            Poll::Pending => {}
        }
    }

    /// Notes that nothing is left to be written.
    pub(crate) fn flushed(&self) {
        self.is_silent.set(self.requests.get() == 0);
    }

    /// Whether what is written now answers no request that was read.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.get() && !self.is_http2.get()
    }

    /// Whether to listen on before closing. Begins the time that may take.
    pub(crate) fn lingers(&self) -> bool {
        let lingers = self.left_unread.get() && !self.is_http2.get();
        if lingers && !matches!(self.doing.get(), Doing::Lingering(_)) {
            self.doing.set(Doing::Lingering(Instant::now()));
        }
        lingers
    }

    /// What to do. The connection is woken when that changes.
    pub(crate) fn poll_order(&self, cx: &Context<'_>) -> Order {
        self.waker.replace(Some(cx.waker().clone()));
        self.order.get()
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A request under way on a connection.
pub(crate) struct Busy(Rc<Watch>);

impl Busy {
    /// Notes that the client may be sending something of the request that nobody will read.
    pub(crate) fn leave_unread(&self) {
        self.0.left_unread.set(true);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.requests.get().saturating_sub(1);
        self.0.requests.set(left);
        if left == 0 {
            self.0.doing.set(Doing::Idle(Instant::now()));
        }
    }
}
