//! A client's body on its way to an upstream: counted, and bounded in size and time.

use std::{
    mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    body::{BodyFault, Source},
    body_reader::BodyReader,
    buffers::Buffers,
    framing::Framing,
    incoming::{Incoming, StreamBody},
    recorded::Tap,
    socket::Socket,
    timers::{Timer, Timers},
};

/// Read ahead of the answer from a client that sends on; what is beyond it waits in the system.
const AHEAD: usize = 16 * 1024;

/// What is left of a body that nobody wants may be so much, to be read and thrown away: more costs
/// the connection instead.
pub(crate) const SHORT: usize = 16 * 1024;

/// Says that the body is waited for (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a client sends behind a head.
pub(crate) struct RequestBody {
    from: From,
    framing: Framing,
    /// Bytes received so far.
    bytes: u64,
    max_size: Option<u64>,
    /// When something of it was last received; at first, when the request began.
    last: Instant,
    waits_for_client: bool,
    /// How long the client may pause.
    timeout: Duration,
    timer: Timer,
    /// Sees what comes, where that is to be recorded.
    pub(crate) tap: Option<Box<Tap>>,
}

enum From {
    Http1(Http1Body),
    Http2(StreamBody),
    /// It was taken out; and a head that could not be read has none that anyone would read.
    Nowhere,
}

/// A body read from the connection its head came over.
pub(crate) struct Http1Body {
    socket: Rc<Socket>,
    buffers: Rc<Buffers>,
    /// What was read behind the head.
    reader: BodyReader,
    /// What is left to be written of the word that asks for it.
    asks: &'static [u8],
    /// Whether the client may keep the body, for it was not asked for it.
    is_kept: bool,
    /// Whether the client has said its last.
    pub(crate) is_closed: bool,
}

/// What bounds a body.
pub(crate) struct Bounds<'a> {
    /// When the request began.
    pub(crate) began: Instant,
    /// Larger ones break off.
    pub(crate) max_size: Option<u64>,
    /// How long the client may pause.
    pub(crate) timeout: Duration,
    /// What keeps that time.
    pub(crate) timers: &'a Rc<Timers>,
}

impl RequestBody {
    /// A body behind an HTTP/1.1 head; `waits` when the client sends it only when it is asked to.
    pub(crate) fn over_http1(
        socket: Rc<Socket>,
        buffers: Rc<Buffers>,
        behind: Vec<u8>,
        framing: Framing,
        waits: bool,
        bounds: &Bounds<'_>,
    ) -> Self {
        let reader = BodyReader::new(behind, framing);
        // One that sends it all the same need not be asked (RFC 9110 section 10.1.1).
        let waits = waits && reader.ahead() == 0 && !reader.has_ended();
        let asks = if waits { CONTINUE } else { &[] };
        let body = Http1Body { socket, buffers, reader, asks, is_kept: false, is_closed: false };
        Self::new(From::Http1(body), framing, bounds)
    }

    /// The body of an HTTP/2 stream.
    pub(crate) fn over_http2(
        incoming: Rc<Incoming>,
        framing: Framing,
        bounds: &Bounds<'_>,
    ) -> Self {
        Self::new(From::Http2(StreamBody::new(incoming)), framing, bounds)
    }

    /// None.
    pub(crate) fn absent(bounds: &Bounds<'_>) -> Self {
        Self::new(From::Nowhere, Framing::Absent, bounds)
    }

    fn new(from: From, framing: Framing, bounds: &Bounds<'_>) -> Self {
        Self {
            from,
            framing,
            bytes: 0,
            max_size: bounds.max_size,
            last: bounds.began,
            waits_for_client: false,
            timeout: bounds.timeout,
            timer: Timer::new(bounds.timers),
            tap: None,
        }
    }

    /// How its end is told.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Bytes received so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When something of it was last received; at first, when the request began.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    /// Whether it is the client that everything waits for.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// Whether all of it was received and taken.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.from {
            From::Http1(body) => body.has_ended(),
            From::Http2(body) => body.has_ended(),
            From::Nowhere => true,
        }
    }

    /// Whether its head says that it is longer than allowed.
    pub(crate) fn is_too_large(&self) -> bool {
        match (self.framing, self.max_size) {
            (Framing::Length(length), Some(max)) => length > max,
            _ => false,
        }
    }

    /// Whether the end of it was seen, or is near enough to be waited for.
    pub(crate) fn is_nearly_over(&self) -> bool {
        match &self.from {
            From::Http1(body) => !body.is_closed && (body.has_ended() || body.is_short()),
            From::Http2(_) => true,
            From::Nowhere => false,
        }
    }

    /// Whether the client was seen to say its last.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(&self.from, From::Http1(body) if body.is_closed)
    }

    /// Takes out what is left of it, and what was read behind it. Its counts stay.
    pub(crate) fn take_http1(&mut self) -> Option<Http1Body> {
        match mem::replace(&mut self.from, From::Nowhere) {
            From::Http1(body) => Some(body),
            From::Http2(_) | From::Nowhere => None,
        }
    }

    /// Ready when the client has gone away, which shows only once its body was read to the end.
    /// HTTP/2 tells it otherwise.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.from {
            From::Http1(body) if body.reader.has_come() => body.poll_gone(cx),
            _ => Poll::Pending,
        }
    }

    /// Whether it is others of its connection that keep the client from sending it (RFC 9113 section 5.2.1).
    fn is_shut(&self) -> bool {
        matches!(&self.from, From::Http2(body) if body.is_shut())
    }

    /// Notes that something of it came.
    fn came(&mut self) {
        self.waits_for_client = false;
        self.timer.clear();
        self.last = Instant::now();
    }

    /// Lets a client that waits to be asked for the body keep it: the answer goes out without. What
    /// is left of a question that was begun has to go out before.
    pub(crate) fn ask_no_more(&mut self) -> &'static [u8] {
        match &mut self.from {
            From::Http1(body) => body.ask_no_more(),
            From::Http2(_) | From::Nowhere => &[],
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        match &mut self.from {
            From::Http1(body) => body.poll_data(cx),
            From::Nowhere => Poll::Ready(Ok(false)),
            From::Http2(body) => body.poll_data(),
        }
    }
}

impl Source for RequestBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        if !self.data().is_empty() {
            return Poll::Ready(Ok(true));
        }
        let fault = match self.poll_more(cx) {
            Poll::Ready(Ok(false)) => {
                if self.waits_for_client {
                    self.came();
                }
                if let Some(tap) = &mut self.tap {
                    tap.end();
                }
                return Poll::Ready(Ok(false));
            }
            Poll::Ready(Ok(true)) => {
                self.came();
                self.bytes += self.data().len() as u64;
                if let Some(mut tap) = self.tap.take() {
                    tap.see(self.data());
                    self.tap = Some(tap);
                }
                if self.max_size.is_none_or(|max| self.bytes <= max) {
                    return Poll::Ready(Ok(true));
                }
                BodyFault::TooLarge
            }
            Poll::Ready(Err(fault)) => fault,
            Poll::Pending => {
                self.waits_for_client = true;
                ready!(self.timer.poll_after(cx, self.timeout));
                // Those that shut it are bounded in time themselves.
                while self.is_shut() {
                    self.timer.clear();
                    ready!(self.timer.poll_after(cx, self.timeout));
                }
                BodyFault::Stalled
            }
        };
        Poll::Ready(Err(fault))
    }

    fn data(&self) -> &[u8] {
        match &self.from {
            From::Http1(body) => body.data(),
            From::Http2(body) => body.data(),
            From::Nowhere => &[],
        }
    }

    fn take(&mut self, length: usize) {
        match &mut self.from {
            From::Http1(body) => body.take(length),
            From::Http2(body) => body.take(length),
            From::Nowhere => {}
        }
    }
}

impl Http1Body {
    /// Waits for data; false: the body has ended.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        loop {
            if let Poll::Ready(found) = self.reader.find() {
                return Poll::Ready(found);
            }
            ready!(self.poll_ask(cx))?;
            self.make_room();
            let read = ready!(self.socket.poll_read(cx, &mut self.reader.buffer));
            self.reader.has_read(&read)?;
        }
    }

    /// What [`Http1Body::poll_data`] has found.
    pub(crate) fn data(&self) -> &[u8] {
        self.reader.data()
    }

    /// Takes so much of it.
    pub(crate) fn take(&mut self, length: usize) {
        self.reader.take(length);
    }

    /// What was read behind the body: the begin of the next request.
    pub(crate) fn into_behind(mut self) -> Vec<u8> {
        self.reader.take_behind()
    }

    /// Whether all of it was received and taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.reader.has_ended()
    }

    /// Whether what is left of it is little enough to be read and thrown away.
    fn is_short(&self) -> bool {
        !self.is_kept && self.asks.is_empty() && self.reader.ends_within(SHORT as u64)
    }

    /// Makes room to read on.
    fn make_room(&mut self) {
        // Much where there is much to come.
        let is_long = self.reader.left().is_none_or(|left| left >= SHORT as u64);
        self.reader.make_room(&self.buffers, is_long);
    }

    fn ask_no_more(&mut self) -> &'static [u8] {
        let rest = mem::take(&mut self.asks);
        self.is_kept = rest.len() == CONTINUE.len();
        if self.is_kept { &[] } else { rest }
    }

    /// Tells a client that waits for it that its body is wanted.
    fn poll_ask(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        while !self.asks.is_empty() {
            let part = [std::io::IoSlice::new(self.asks)];
            let wrote = ready!(self.socket.poll_write(cx, &part)).map_err(|_| BodyFault::Broken)?;
            self.asks = self.asks.get(wrote..).unwrap_or_default();
        }
        self.socket.poll_flush(cx).map_err(|_| BodyFault::Broken)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.reader.ahead() < AHEAD {
            ready!(self.socket.poll_readable(cx));
            self.make_room();
            match ready!(self.socket.poll_read(cx, &mut self.reader.buffer)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    self.is_closed = true;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        self.reader.give_back(&self.buffers);
    }
}
