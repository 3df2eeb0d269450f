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

use tokio::{task::AbortHandle, time::Instant};

use crate::{request_line::RequestLine, settings::Settings};

/// After how long without a request a connection is parked.
const PARK_AFTER: Duration = Duration::from_secs(2);

/// How long a connection without requests may take to end once it was asked to.
const FAREWELL: Duration = Duration::from_secs(1);

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
    /// Answers under way over HTTP/2.
    streams: RefCell<Vec<Rc<Stream>>>,
    /// Since when it is asked to end.
    finishing: Cell<Option<Instant>>,
    /// It needs nothing but its socket.
    is_parked: Cell<bool>,
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
    /// Wait for the next request with nothing but the socket.
    Park,
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
            is_http2: Cell::new(false),
            is_silent: Cell::new(true),
            left_unread: Cell::new(false),
            request_line: RefCell::default(),
            blocked: Cell::new(None),
            streams: RefCell::default(),
            finishing: Cell::new(None),
            is_parked: Cell::new(false),
            order: Cell::new(Order::GoOn),
            waker: RefCell::default(),
        })
    }

    /// Ends the connection if it has been idle, sending one head or taking nothing for too long,
    /// and single streams of it that take nothing.
    pub(crate) fn patrol(&self, now: Instant, settings: &Settings) {
        let is_over = |since: Instant, timeout| now.saturating_duration_since(since) > timeout;
        let is_stuck =
            |since: Option<Instant>| since.is_some_and(|at| is_over(at, settings.body_timeout));
        if is_stuck(self.blocked.get()) {
            return self.give(Order::Abort);
        }
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| Rc::strong_count(stream) > 1);
        let stuck = streams.iter().filter(|stream| is_stuck(stream.untaken_since.get()));
        stuck.for_each(|stream| stream.task.abort());
        drop(streams);
        let was_asked_to_end = self.finishing.get().is_some_and(|since| is_over(since, FAREWELL));
        match self.doing.get() {
            Doing::Idle(_) | Doing::Head(_) if was_asked_to_end => self.give(Order::Abort),
            Doing::Idle(since) if is_over(since, settings.keep_alive_timeout) => self.finish(),
            Doing::Idle(since) if is_over(since, PARK_AFTER) && self.can_park() => {
                self.give(Order::Park);
            }
            Doing::Head(since) if is_over(since, settings.header_timeout) => {
                self.give(Order::RefuseHead);
            }
            Doing::Lingering(since) if is_over(since, LINGER) => self.give(Order::Abort),
            Doing::Idle(_) | Doing::Head(_) | Doing::Requests | Doing::Lingering(_) => {}
        }
    }

    /// Asks the connection to finish what is under way and close.
    pub(crate) fn finish(&self) {
        self.finishing.set(self.finishing.get().or_else(|| Some(Instant::now())));
        self.give(Order::Finish);
    }

    /// Notes a request, until what is returned is dropped. Over HTTP/2, `task` serves it.
    pub(crate) fn request(self: &Rc<Self>, task: Option<AbortHandle>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.doing.set(Doing::Requests);
        self.is_silent.set(false);
        self.left_unread.set(false);
        let stream = task.map(|task| Rc::new(Stream { task, untaken_since: Cell::new(None) }));
        self.streams.borrow_mut().extend(stream.clone());
        Busy { watch: self.clone(), stream }
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
            self.is_parked.set(false);
            self.doing.set(Doing::Head(Instant::now()));
            self.request_line.borrow_mut().clear();
        }
        if let Doing::Head(_) = self.doing.get() {
            self.request_line.borrow_mut().extend(bytes);
        }
    }

    /// Whether the head that is being read is to be refused for taking too long.
    pub(crate) fn refuses_head(&self) -> bool {
        self.order.get() == Order::RefuseHead
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

    /// Notes which protocol is spoken.
    pub(crate) fn speaks_http2(&self) {
        self.is_http2.set(true);
    }

    /// What to do. The connection is woken when that changes.
    pub(crate) fn poll_order(&self, cx: &Context<'_>) -> Order {
        let order = self.order.get();
        if order == Order::Park {
            // Said once: what came meanwhile may have made it wrong.
            self.order.set(Order::GoOn);
            if !(self.can_park() && matches!(self.doing.get(), Doing::Idle(_))) {
                return self.poll_order(cx);
            }
            self.is_parked.set(true);
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        order
    }

    /// Whether hyper holds nothing that its socket would miss.
    fn can_park(&self) -> bool {
        !self.is_http2.get() && !self.is_parked.get() && self.is_silent.get()
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A request under way over HTTP/2. A client can keep it from sending more by flow control, which
/// no write to the connection shows.
struct Stream {
    task: AbortHandle,
    /// Since when the client takes nothing of the answer.
    untaken_since: Cell<Option<Instant>>,
}

/// A request under way on a connection.
pub(crate) struct Busy {
    watch: Rc<Watch>,
    stream: Option<Rc<Stream>>,
}

impl Busy {
    /// Notes that the client may be sending something of the request that nobody will read.
    pub(crate) fn leave_unread(&self) {
        self.watch.left_unread.set(true);
    }

    /// Notes that something of the answer is on its way to the client.
    pub(crate) fn gave(&self) {
        if let Some(stream) = &self.stream {
            stream.untaken_since.set(Some(Instant::now()));
        }
    }

    /// Notes that the client has room for more of it.
    pub(crate) fn is_asked(&self) {
        if let Some(stream) = &self.stream {
            stream.untaken_since.set(None);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.watch.requests.get().saturating_sub(1);
        self.watch.requests.set(left);
        if left == 0 {
            self.watch.doing.set(Doing::Idle(Instant::now()));
        }
    }
}
