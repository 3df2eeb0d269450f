//! HTTP/1.1 with a client: heads in, answers out, one after another (RFC 9112).
//!
//! ```text
//! idle -> head -> exchange -> idle
//!                          -> lingering -> end
//! ```
//!
//! Between two requests a connection holds no memory but its socket's and its task's. One that the
//! gateway closes listens on for a while: closing at once, while the client is still sending, would
//! reset it, and the client would lose the answer (RFC 9112 section 9.6).

mod answer_head;

use std::{
    future::poll_fn,
    io::IoSlice,
    rc::Rc,
    task::{Context, Poll},
};

use http::Method;

use self::answer_head::End;
use super::linger::linger;
use crate::{
    body::{Coding, Pump, PumpFault},
    buffers::CAPACITY,
    error::Refusal,
    exchange::{Exchange, Moment},
    framing::{self, Framing},
    gateway::Gateway,
    head::{Index, Kind, Lines},
    reply::Reply,
    request::{self, Parsed, RequestHead, Target, Version},
    request_body::{self, Bounds, Http1Body, RequestBody},
    shared::Shared,
    socket::Socket,
    upstream::UpstreamAnswer,
    watch::{Order, Watch},
};

/// What surely fits into a buffer that is not a large one.
const SHORT: usize = 4096;

/// A connection that speaks it.
pub(super) struct Http1 {
    socket: Rc<Socket>,
    gateway: Gateway,
    watch: Rc<Watch>,
}

/// What follows an exchange.
enum Next {
    /// Another one, which may have begun with these bytes.
    Request(Vec<u8>),
    /// The end, once the client has read the answer.
    Linger,
    /// The end.
    Close,
    /// The end, in the middle of an answer.
    BreakOff,
}

/// Whether a connection goes on behind an answer.
enum GoesOn {
    Yes,
    /// The answer said that it ends.
    No,
    /// The answer was not written to its end.
    Broken,
}

impl Http1 {
    pub(super) fn new(socket: Socket, gateway: Gateway, watch: Rc<Watch>) -> Self {
        Self { socket: Rc::new(socket), gateway, watch }
    }

    /// Serves requests to the end of the connection, the first of which begins with `begun`.
    pub(super) async fn serve(self, mut begun: Vec<u8>) {
        loop {
            if !poll_fn(|cx| self.poll_begun(cx, &mut begun)).await {
                break;
            }
            // Boxed: nothing of it is left while the connection is idle.
            let mut exchange = Box::pin(self.exchange(begun));
            let next = poll_fn(|cx| match self.watch.poll_order(cx) {
                Order::Abort => Poll::Ready(Next::BreakOff),
                Order::GoOn | Order::RefuseHead | Order::Finish => exchange.as_mut().poll(cx),
            });
            match next.await {
                Next::Request(behind) => begun = behind,
                Next::Linger => {
                    return linger(&self.socket, &self.watch, &self.worker().buffers).await;
                }
                Next::Close => break,
                Next::BreakOff => return,
            }
        }
        self.socket.say_goodbye();
    }

    fn worker(&self) -> &Rc<Shared> {
        &self.gateway.worker
    }

    /// Waits for a request, which begins with `bytes` then; false: the connection is to end. Empty
    /// lines before a request are none of it (RFC 9112 section 2.2): who sends some is as idle as
    /// who sends nothing.
    fn poll_begun(&self, cx: &mut Context<'_>, bytes: &mut Vec<u8>) -> Poll<bool> {
        let buffers = &self.worker().buffers;
        loop {
            drop_empty_lines(bytes);
            // A CR may yet become an empty line.
            if !matches!(bytes[..], [] | [b'\r']) {
                return Poll::Ready(true);
            }
            if let Order::Finish | Order::Abort = self.watch.poll_order(cx) {
                return Poll::Ready(false);
            }
            let mut buffer = buffers.take();
            buffer.extend_from_slice(bytes);
            let read = self.socket.poll_read(cx, &mut buffer);
            if read.is_pending() {
                buffers.give_back(&mut buffer);
                return Poll::Pending;
            }
            buffers.give_back(bytes);
            *bytes = buffer;
            if !matches!(read, Poll::Ready(Ok(1..))) {
                return Poll::Ready(false);
            }
        }
    }

    /// Waits for the end of a head; `None`: the connection is to end.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
        parsed_to: &mut usize,
    ) -> Poll<Option<Result<Parsed, Refusal>>> {
        loop {
            if may_be_whole(bytes, *parsed_to) {
                if let Some(parsed) = request::parse(bytes).transpose() {
                    return Poll::Ready(Some(parsed));
                }
                *parsed_to = bytes.len();
            }
            if bytes.len() >= CAPACITY {
                return Poll::Ready(Some(Err(Refusal::HeadTooLarge)));
            }
            self.worker().buffers.make_room(bytes, false);
            if self.watch.poll_order(cx) == Order::RefuseHead {
                return Poll::Ready(Some(Err(Refusal::HeadTimeout)));
            }
            match self.socket.poll_read(cx, bytes) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    self.watch.began_head();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads one request and answers it.
    async fn exchange(&self, mut bytes: Vec<u8>) -> Next {
        let mut parsed_to = 0;
        let parsed = poll_fn(|cx| self.poll_head(cx, &mut bytes, &mut parsed_to)).await;
        let next = match parsed {
            Some(Ok(parsed)) => self.answer(&mut bytes, &parsed).await,
            Some(Err(refusal)) => self.refuse(&bytes, &refusal).await,
            None => Next::Close,
        };
        self.worker().buffers.give_back(&mut bytes);
        next
    }

    /// What was read behind a head, which is left alone in `bytes`.
    fn split(&self, bytes: &mut Vec<u8>, length: usize) -> Vec<u8> {
        let behind = bytes.get(length..).unwrap_or_default();
        if behind.is_empty() {
            return Vec::new();
        }
        let mut buffer = Vec::new();
        self.worker().buffers.make_room(&mut buffer, behind.len() >= SHORT);
        buffer.extend_from_slice(behind);
        bytes.truncate(length);
        buffer
    }

    fn begin(&self, head: &RequestHead<'_>, began: Moment, body: RequestBody) -> Exchange {
        let peer = self.gateway.peer.address;
        Exchange::begin(self.worker(), head, peer, (began, body, self.watch.request()))
    }

    fn bounds(&self, began: Moment) -> Bounds<'_> {
        let Shared { settings, timers, .. } = &**self.worker();
        let (max_size, timeout) = (settings.max_body_size, settings.body_timeout);
        Bounds { began: began.instant, max_size, timeout, timers }
    }

    fn body(
        &self,
        head: &RequestHead<'_>,
        framing: Framing,
        behind: Vec<u8>,
        began: Moment,
    ) -> RequestBody {
        let waits =
            head.version == Version::Http11 && head.lines.has_token(Kind::Expect, b"100-continue");
        let (socket, buffers) = (self.socket.clone(), self.worker().buffers.clone());
        RequestBody::over_http1(socket, buffers, behind, framing, waits, &self.bounds(began))
    }

    /// Answers the request in `bytes`.
    async fn answer(&self, bytes: &mut Vec<u8>, parsed: &Parsed) -> Next {
        let began = Moment::now();
        let behind = self.split(bytes, parsed.length);
        let head = &RequestHead {
            method: &parsed.method,
            target: Target::parse(bytes.get(parsed.target.clone()).unwrap_or_default()),
            version: parsed.version,
            lines: Lines::new(bytes, &parsed.index),
        };
        let said = framing::Said::by_request(head.lines, head.version == Version::Http11);
        let framing = said.map_or(Framing::Absent, |said| said.framing);
        let body = self.body(head, framing, behind, began);
        let mut exchange = self.begin(head, began, body);
        let (reply, may_go_on) = match said {
            Ok(said) => {
                let reply = self.gateway.serve(head, &mut exchange).await;
                (reply, wants_more(head) && !said.is_contradictory)
            }
            Err(doubt) => (self.gateway.refuse(&doubt.into(), &mut exchange), false),
        };
        let goes_on = self.write(head, reply, &mut exchange, may_go_on).await;
        match (goes_on, exchange.end()) {
            (GoesOn::Broken, _) => Next::BreakOff,
            (GoesOn::Yes, Some(body)) if body.has_ended() => Next::Request(body.into_behind()),
            (GoesOn::Yes, Some(body)) => Box::pin(self.skip(body)).await,
            (GoesOn::No, Some(body)) if body.is_closed => Next::Close,
            (GoesOn::Yes | GoesOn::No, _) => Next::Linger,
        }
    }

    /// Answers what can't become a request.
    async fn refuse(&self, bytes: &[u8], refusal: &Refusal) -> Next {
        let began = Moment::now();
        let (method, target) = request::first_line(bytes);
        let index = Index::default();
        let lines = Lines::new(&[], &index);
        let head = &RequestHead { method: &method, target, version: Version::Http11, lines };
        let body = RequestBody::absent(&self.bounds(began));
        let mut exchange = self.begin(head, began, body);
        let reply = self.gateway.refuse(refusal, &mut exchange);
        match self.write(head, reply, &mut exchange, false).await {
            GoesOn::Broken => Next::BreakOff,
            GoesOn::Yes | GoesOn::No => Next::Linger,
        }
    }

    /// Writes an answer.
    async fn write(
        &self,
        head: &RequestHead<'_>,
        reply: Reply,
        exchange: &mut Exchange,
        may_go_on: bool,
    ) -> GoesOn {
        reply.begins(self.worker(), exchange);
        if exchange.body.is_closed() {
            // There is nobody left to read it.
            return GoesOn::Broken;
        }
        let mut out = self.worker().buffers.take();
        out.extend_from_slice(exchange.body.ask_no_more());
        let end = End::of(&reply, head.version);
        let goes_on = may_go_on
            && !reply.ends_connection()
            && !self.watch.is_finishing()
            && end != End::Close
            && exchange.body.is_nearly_over();
        answer_head::put(&mut out, self.worker(), exchange, &reply, head.version, goes_on);
        let was_written = match reply {
            Reply::Own(response) => {
                let body = if *head.method == Method::HEAD { &[][..] } else { response.body() };
                out.extend_from_slice(body);
                exchange.gave(body.len());
                self.write_all(&mut out).await
            }
            Reply::Upstream(mut answer) => {
                let coding = if end == End::Chunked { Coding::Chunked } else { Coding::Plain };
                let mut pump = Pump::new(out, coding);
                let was_passed = self.pass_on(&mut pump, &mut answer, exchange).await;
                if was_passed {
                    pump.give_back(&self.worker().buffers);
                    answer.finish();
                }
                was_passed
            }
        };
        if !was_written {
            return GoesOn::Broken;
        }
        exchange.was_given_whole();
        if goes_on { GoesOn::Yes } else { GoesOn::No }
    }

    /// Hands an upstream's answer through; whether all of it was.
    async fn pass_on(
        &self,
        pump: &mut Pump,
        answer: &mut UpstreamAnswer,
        exchange: &mut Exchange,
    ) -> bool {
        let passed = poll_fn(|cx| {
            let mut body = answer.body(&mut exchange.body, &mut exchange.streamed);
            let passed = pump.poll(cx, &mut body, |cx, parts| self.socket.poll_write(cx, parts));
            exchange.response_size = pump.passed();
            // What is on its way goes on, whether or not there is more to come.
            match (passed, self.socket.poll_flush(cx)) {
                (Poll::Ready(Ok(())), flushed) => flushed.map_err(|_| PumpFault::Sink),
                (passed, _) => passed,
            }
        });
        match passed.await {
            Ok(()) => true,
            Err(PumpFault::Source(fault)) => {
                exchange.broke_off(fault);
                let write =
                    |cx: &mut Context<'_>, parts: &[IoSlice<'_>]| self.socket.poll_write(cx, parts);
                // As far as it came it is the client's, which may have been told nothing yet.
                let rest = poll_fn(|cx| match pump.poll_rest(cx, write) {
                    Poll::Ready(Ok(())) => self.socket.poll_flush(cx).map(drop),
                    other => other.map(drop),
                });
                rest.await;
                false
            }
            Err(PumpFault::Sink) => false,
        }
    }

    /// Whether the client took all of it.
    async fn write_all(&self, out: &mut Vec<u8>) -> bool {
        let mut sent = 0;
        let wrote = poll_fn(|cx| {
            while let Some(rest @ [_, ..]) = out.get(sent..) {
                match self.socket.poll_write(cx, &[IoSlice::new(rest)]) {
                    Poll::Ready(Ok(wrote @ 1..)) => sent += wrote,
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.socket.poll_flush(cx).map(|flushed| flushed.is_ok())
        })
        .await;
        self.worker().buffers.give_back(out);
        wrote
    }

    /// Reads a request to its end, of which little is left, so that the next one can follow.
    async fn skip(&self, mut body: Http1Body) -> Next {
        self.watch.lingers();
        // How much is left of one in chunks, nobody had said.
        let mut patience = CAPACITY + request_body::SHORT;
        let came_to_end = poll_fn(|cx| {
            loop {
                let length = body.data().len();
                body.take(length);
                if length > patience {
                    return Poll::Ready(Ok(false));
                }
                patience -= length;
                match body.poll_data(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => return Poll::Ready(Ok(true)),
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        match came_to_end.await {
            Ok(true) => {
                self.watch.is_idle();
                Next::Request(body.into_behind())
            }
            Ok(false) => Next::Linger,
            Err(_) => Next::BreakOff,
        }
    }
}

/// Takes away empty lines that stand before a request.
fn drop_empty_lines(bytes: &mut Vec<u8>) {
    let mut rest = &bytes[..];
    while let [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] = rest {
        rest = behind;
    }
    let length = bytes.len() - rest.len();
    if length > 0 {
        drop(bytes.drain(..length));
    }
}

/// Whether it is worth parsing: at first, so that what is no HTTP is refused at once, and then when
/// a head has come to its end. Parsing it anew with each byte would cost its length squared.
fn may_be_whole(bytes: &[u8], parsed_to: usize) -> bool {
    let fresh = bytes.get(parsed_to.saturating_sub(3)..).unwrap_or_default();
    parsed_to == 0
        || fresh.windows(2).any(|pair| pair == b"\n\n")
        || fresh.windows(3).any(|three| three == b"\n\r\n")
}

/// Whether the client wants to send another request over its connection (RFC 9112 section 9.3).
fn wants_more(head: &RequestHead<'_>) -> bool {
    match head.version {
        Version::Http10 => head.lines.has_token(Kind::Connection, b"keep-alive"),
        Version::Http11 | Version::Http2 => !head.lines.has_token(Kind::Connection, b"close"),
    }
}
