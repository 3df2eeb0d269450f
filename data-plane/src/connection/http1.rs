//! HTTP/1.1 with a client: heads in, answers out, one after another (RFC 9112).
//!
//! ```text
//! idle -> head -> exchange -> idle
//!                          -> lingering -> end
//! ```
//!
//! Between two requests a connection holds no memory but its socket's and its task's. One that is
//! closed while its client is still sending listens on for a while: closing at once would reset
//! it, and the client would lose the answer (RFC 9112 section 9.6).

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use http::Method;

use crate::{
    body::{Coding, Pump, PumpFault},
    buffers::CAPACITY,
    error::Refusal,
    exchange::{Exchange, Moment},
    forwarding::put_line,
    framing::{self, Framing},
    gateway::Gateway,
    head::{Index, Kind, Lines},
    reply::Reply,
    request::{self, Parsed, RequestHead, Target, Version},
    request_body::{Bounds, Http1Body, RequestBody},
    shared::Shared,
    socket::Socket,
    watch::{Order, Watch},
};

/// A connection that speaks it.
pub(super) struct Http1 {
    socket: Rc<Socket>,
    gateway: Gateway,
    watch: Rc<Watch>,
}

/// What was read of a request.
struct Read {
    bytes: Vec<u8>,
    /// Its head, behind which there may be more; or why it can't become one.
    parsed: Result<Parsed, Refusal>,
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

impl Http1 {
    pub(super) fn new(socket: Socket, gateway: Gateway, watch: Rc<Watch>) -> Self {
        Self { socket: Rc::new(socket), gateway, watch }
    }

    /// Serves requests to the end of the connection, the first of which begins with `begun`.
    pub(super) async fn serve(self, mut begun: Vec<u8>) {
        while let Some(read) = self.read(begun).await {
            // Boxed: nothing of it is left while the connection is idle.
            let mut exchange = Box::pin(self.exchange(read));
            let next = poll_fn(|cx| match self.watch.poll_order(cx) {
                Order::Abort => Poll::Ready(Next::BreakOff),
                Order::GoOn | Order::RefuseHead | Order::Finish => exchange.as_mut().poll(cx),
            });
            match next.await {
                Next::Request(behind) => begun = behind,
                Next::Linger => return self.linger().await,
                Next::Close => break,
                Next::BreakOff => return,
            }
        }
        self.socket.say_goodbye();
    }

    fn worker(&self) -> &Rc<Shared> {
        &self.gateway.worker
    }

    /// Reads the head of a request; `None`: the connection is to end.
    async fn read(&self, mut bytes: Vec<u8>) -> Option<Read> {
        let mut parsed_to = 0;
        let parsed = poll_fn(|cx| self.poll_head(cx, &mut bytes, &mut parsed_to)).await?;
        Some(Read { bytes, parsed })
    }

    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
        parsed_to: &mut usize,
    ) -> Poll<Option<Result<Parsed, Refusal>>> {
        let buffers = &self.worker().buffers;
        loop {
            match self.watch.poll_order(cx) {
                Order::Abort => return Poll::Ready(None),
                Order::Finish if bytes.is_empty() => return Poll::Ready(None),
                Order::RefuseHead => return Poll::Ready(Some(Err(Refusal::HeadTimeout))),
                Order::GoOn | Order::Finish => {}
            }
            if !bytes.is_empty() && may_be_whole(bytes, *parsed_to) {
                if let Some(parsed) = request::parse(bytes).transpose() {
                    return Poll::Ready(Some(parsed));
                }
                *parsed_to = bytes.len();
            }
            if bytes.len() >= CAPACITY {
                return Poll::Ready(Some(Err(Refusal::HeadTooLarge)));
            }
            if bytes.capacity() == 0 {
                *bytes = buffers.take();
            }
            match self.socket.poll_read(cx, bytes) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending if bytes.is_empty() => {
                    buffers.give_back(bytes);
                    return Poll::Pending;
                }
                Poll::Pending => {
                    self.watch.began_head();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Answers one request.
    async fn exchange(&self, read: Read) -> Next {
        let began = Moment::now();
        let settings = &self.worker().settings;
        let bounds = Bounds {
            began: began.instant,
            max_size: settings.max_body_size,
            timeout: settings.body_timeout,
            timers: &self.worker().timers,
        };
        let Read { mut bytes, parsed } = read;
        match parsed {
            Ok(parsed) => {
                let behind = self.split(&mut bytes, parsed.length);
                let head = RequestHead {
                    method: &parsed.method,
                    target: Target::parse(bytes.get(parsed.target).unwrap_or_default()),
                    version: parsed.version,
                    lines: Lines::new(&bytes, &parsed.index),
                };
                let next = self.answer(&head, behind, began, &bounds).await;
                self.worker().buffers.give_back(&mut bytes);
                next
            }
            Err(refusal) => {
                let (method, target) = request::first_line(&bytes);
                let index = Index::default();
                let lines = Lines::new(&[], &index);
                let head = RequestHead { method: &method, target, version: Version::Http11, lines };
                let mut exchange = self.begin(&head, began, RequestBody::absent(&bounds));
                let reply = self.gateway.refuse(&refusal, &mut exchange);
                self.write(&head, reply, exchange, false).await
            }
        }
    }

    /// What was read behind a head, which is left alone in `bytes`.
    fn split(&self, bytes: &mut Vec<u8>, length: usize) -> Vec<u8> {
        let behind = bytes.get(length..).unwrap_or_default();
        if behind.is_empty() {
            return Vec::new();
        }
        let mut buffer = self.worker().buffers.take();
        buffer.extend_from_slice(behind);
        bytes.truncate(length);
        buffer
    }

    fn begin(&self, head: &RequestHead<'_>, began: Moment, body: RequestBody) -> Exchange {
        let peer = self.gateway.peer.address;
        Exchange::begin(self.worker(), head, peer, (began, body, self.watch.request(None)))
    }

    async fn answer(
        &self,
        head: &RequestHead<'_>,
        behind: Vec<u8>,
        began: Moment,
        bounds: &Bounds<'_>,
    ) -> Next {
        let is_http11 = head.version == Version::Http11;
        let said = framing::Said::by_request(head.lines, is_http11);
        let framing = said.map_or(Framing::Absent, |said| said.framing);
        let waits = is_http11 && has_token(head.lines, Kind::Expect, b"100-continue");
        let (socket, buffers) = (self.socket.clone(), self.worker().buffers.clone());
        let body = RequestBody::over_http1(socket, buffers, behind, framing, waits, bounds);
        let mut exchange = self.begin(head, began, body);
        let (reply, may_go_on) = match said {
            Ok(said) => {
                let reply = self.gateway.serve(head, &mut exchange).await;
                (reply, wants_more(head) && !said.is_contradictory)
            }
            Err(doubt) => (self.gateway.refuse(&doubt.into(), &mut exchange), false),
        };
        self.write(head, reply, exchange, may_go_on).await
    }

    /// Writes an answer, and says what may follow it.
    async fn write(
        &self,
        head: &RequestHead<'_>,
        reply: Reply,
        mut exchange: Exchange,
        may_go_on: bool,
    ) -> Next {
        exchange.answers(reply.status());
        let goes_on = may_go_on
            && !reply.ends_connection()
            && !self.watch.is_finishing()
            && exchange.body.is_nearly_over();
        let ends_body = is_ended_by_close(&reply, head);
        let mut out = self.worker().buffers.take();
        self.put_head(&mut out, head, &reply, &exchange, goes_on && !ends_body);
        let was_written = match reply {
            Reply::Own(response) => {
                let body = if *head.method == Method::HEAD { &[][..] } else { response.body() };
                out.extend_from_slice(body);
                exchange.gave(body.len());
                self.write_all(&mut out).await
            }
            Reply::Upstream(answer) => {
                let coding = coding(&answer.framing(), head);
                self.pass_on(Pump::new(out, coding), answer, &mut exchange).await
            }
        };
        let body = exchange.end();
        if !was_written {
            return Next::BreakOff;
        }
        if ends_body {
            return Next::Close;
        }
        match body.into_http1() {
            Some(body) if goes_on => self.go_on(body).await,
            Some(body) if body.has_ended() || body.is_closed => Next::Close,
            _ => Next::Linger,
        }
    }

    fn put_head(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead<'_>,
        reply: &Reply,
        exchange: &Exchange,
        goes_on: bool,
    ) {
        let status = reply.status();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(match reply {
            Reply::Own(_) => status.canonical_reason().unwrap_or_default().as_bytes(),
            Reply::Upstream(answer) => answer.reason(),
        });
        out.extend_from_slice(b"\r\n");
        reply.lines(self.worker(), exchange, |name, value| put_line(out, name, value));
        let put_length = |out: &mut Vec<u8>, length: u64| {
            put_line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        };
        match reply {
            Reply::Own(response) => put_length(out, response.body().len() as u64),
            Reply::Upstream(answer) => match answer.framing() {
                Framing::Length(length) => put_length(out, length),
                // An answer to HEAD says how long the body would be.
                Framing::Absent => {
                    let length = answer.lines().values(Kind::ContentLength).next();
                    length.into_iter().for_each(|text| put_line(out, b"content-length", text));
                }
                Framing::Chunked | Framing::UntilClose => {
                    if head.version == Version::Http11 {
                        put_line(out, b"transfer-encoding", b"chunked");
                    }
                }
            },
        }
        match head.version {
            _ if !goes_on => put_line(out, b"connection", b"close"),
            Version::Http10 => put_line(out, b"connection", b"keep-alive"),
            Version::Http11 | Version::Http2 => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Hands an upstream's answer through; whether all of it was.
    async fn pass_on(
        &self,
        mut pump: Pump,
        mut answer: crate::upstream::UpstreamAnswer,
        exchange: &mut Exchange,
    ) -> bool {
        let passed = poll_fn(|cx| {
            let mut body = answer.body(&mut exchange.body);
            let passed = pump.poll(cx, &mut body, |cx, parts| self.socket.poll_write(cx, parts));
            exchange.response_size = pump.passed();
            // What is on its way goes on, whether or not there is more to come.
            match (passed, self.socket.poll_flush(cx)) {
                (Poll::Ready(Ok(())), flushed) => flushed.map_err(|_| PumpFault::Sink),
                (passed, _) => passed,
            }
        });
        match passed.await {
            Ok(()) => {
                pump.give_back(&self.worker().buffers);
                answer.finish();
                true
            }
            Err(PumpFault::Source(fault)) => {
                exchange.broke_off(fault);
                false
            }
            Err(PumpFault::Sink) => {
                exchange.client_left();
                false
            }
        }
    }

    /// Whether the client took all of it.
    async fn write_all(&self, out: &mut Vec<u8>) -> bool {
        let mut sent = 0;
        let wrote = poll_fn(|cx| {
            while let Some(rest @ [_, ..]) = out.get(sent..) {
                match self.socket.poll_write(cx, &[std::io::IoSlice::new(rest)]) {
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
    async fn go_on(&self, mut body: Http1Body) -> Next {
        while !body.has_ended() {
            self.watch.lingers();
            match poll_fn(|cx| body.poll_data(cx)).await {
                Ok(true) => {
                    let length = body.data().len();
                    body.take(length);
                }
                Ok(false) => {}
                Err(_) => return Next::Close,
            }
            self.watch.is_idle();
        }
        Next::Request(body.into_behind())
    }

    /// Throws away what still comes, until the client closes or has had its time.
    pub(super) async fn linger(&self) {
        self.watch.lingers();
        let mut scratch = self.worker().buffers.take();
        poll_fn(|cx| {
            let shut = self.socket.poll_shutdown(cx);
            if self.watch.poll_order(cx) == Order::Abort || matches!(shut, Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            loop {
                scratch.clear();
                match self.socket.poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        self.worker().buffers.give_back(&mut scratch);
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
        Version::Http10 => has_token(head.lines, Kind::Connection, b"keep-alive"),
        Version::Http11 | Version::Http2 => !has_token(head.lines, Kind::Connection, b"close"),
    }
}

fn has_token(lines: Lines<'_>, kind: Kind, token: &[u8]) -> bool {
    lines.values(kind).any(|value| {
        let mut tokens = value.split(|byte| *byte == b',');
        tokens.any(|other| other.trim_ascii().eq_ignore_ascii_case(token))
    })
}

/// Whether only the end of the connection can tell the client where the body ends.
fn is_ended_by_close(reply: &Reply, head: &RequestHead<'_>) -> bool {
    match reply {
        Reply::Own(_) => false,
        Reply::Upstream(answer) => match answer.framing() {
            Framing::Absent | Framing::Length(_) => false,
            Framing::Chunked | Framing::UntilClose => head.version == Version::Http10,
        },
    }
}

fn coding(framing: &Framing, head: &RequestHead<'_>) -> Coding {
    match framing {
        Framing::Absent | Framing::Length(_) => Coding::Plain,
        Framing::Chunked | Framing::UntilClose if head.version == Version::Http10 => Coding::Plain,
        Framing::Chunked | Framing::UntilClose => Coding::Chunked,
    }
}
