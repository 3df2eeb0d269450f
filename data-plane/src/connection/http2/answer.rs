//! Serves one stream: the request into the gateway, its answer into frames.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::Method;

use super::{
    frame::{Code, MAX_PAYLOAD},
    head::Head,
    outgoing::Outgoing,
    receiver::Begun,
    stream::{Answered, Stream},
};
use crate::{
    body::{BodyFault, PumpFault, Source},
    error::Refusal,
    exchange::{Exchange, Moment},
    framing::Framing,
    gateway::Gateway,
    reply::Reply,
    request_body::{Bounds, RequestBody},
    shared::Shared,
    timers::Timer,
    upstream::UpstreamAnswer,
    watch::Watch,
};

/// What the streams of a connection share.
pub(super) struct Session {
    gateway: Gateway,
    watch: Rc<Watch>,
    // Borrowed for single calls below.
    pub(super) outgoing: RefCell<Outgoing>,
    /// Set when a stream waits for room.
    pub(super) is_waited_for: Cell<bool>,
}

impl Session {
    pub(super) fn new(gateway: Gateway, watch: Rc<Watch>) -> Self {
        let outgoing = RefCell::new(Outgoing::new(gateway.worker.buffers.clone()));
        Self { gateway, watch, outgoing, is_waited_for: Cell::new(false) }
    }

    pub(super) fn worker(&self) -> &Shared {
        &self.gateway.worker
    }

    /// Serves a request until its answer was written, or the stream was reset. It is recorded even
    /// if that happens before anything was done for it.
    pub(super) fn serve(self: Rc<Self>, begun: Begun) -> impl Future<Output = Rc<Stream>> {
        let mut exchange = self.begin(&begun);
        let Begun { stream, head, framing } = begun;
        async move {
            {
                let mut answer = pin!(self.answer(&stream, head, framing, &mut exchange));
                poll_fn(|cx| {
                    stream.runs_on(cx);
                    match stream.answered() {
                        Answered::Reset => Poll::Ready(()),
                        Answered::No | Answered::Whole | Answered::Broken(_) => {
                            answer.as_mut().poll(cx)
                        }
                    }
                })
                .await;
            }
            stream
        }
    }

    fn begin(&self, Begun { stream, head, framing }: &Begun) -> Exchange {
        let began = Moment::now();
        let worker = &self.gateway.worker;
        let bounds = Bounds {
            began: began.instant,
            max_size: worker.settings.max_body_size,
            timeout: worker.settings.body_timeout,
            timers: &worker.timers,
        };
        let framed = *framing.as_ref().unwrap_or(&Framing::Absent);
        let body = RequestBody::over_http2(stream.incoming.clone(), framed, &bounds);
        let peer = self.gateway.peer.address;
        let busy = self.watch.request();
        Exchange::begin(worker, &head.request(), peer, (began, body, busy))
    }

    async fn answer(
        &self,
        stream: &Stream,
        mut head: Head,
        framing: Result<Framing, Refusal>,
        exchange: &mut Exchange,
    ) {
        let request = head.request();
        let reply = match framing {
            Ok(_) => self.gateway.serve(&request, exchange).await,
            Err(refusal) => self.gateway.refuse(&refusal, exchange),
        };
        let is_head = *request.method == Method::HEAD;
        head.give_back(&self.worker().buffers);
        self.write(stream, reply, exchange, is_head).await;
    }

    async fn write(&self, stream: &Stream, reply: Reply, exchange: &mut Exchange, is_head: bool) {
        reply.begins(self.worker(), exchange);
        let has_body = match &reply {
            Reply::Own(response) => !is_head && !response.body().is_empty(),
            Reply::Upstream(answer) => !answer.has_ended(),
        };
        self.put_head(stream, &reply, exchange, !has_body);
        stream.begins();
        let passed = match reply {
            Reply::Own(response) if has_body => {
                self.pass_own(stream, response.body(), exchange).await
            }
            Reply::Own(_) => Ok(()),
            Reply::Upstream(mut answer) => {
                let passed = match has_body {
                    true => self.pass_on(stream, &mut answer, exchange).await,
                    false => Ok(()),
                };
                if passed.is_ok() {
                    answer.finish();
                }
                passed
            }
        };
        stream.ends(match passed {
            Ok(()) => {
                exchange.was_given_whole();
                Answered::Whole
            }
            Err(PumpFault::Source(fault)) => {
                exchange.broke_off(fault);
                Answered::Broken(Code::Internal)
            }
            Err(PumpFault::Sink) => Answered::Broken(Code::Cancel),
        });
    }

    fn put_head(&self, stream: &Stream, reply: &Reply, exchange: &Exchange, is_last: bool) {
        self.outgoing.borrow_mut().put_headers(stream.id, is_last, |encoder, out| {
            encoder.status(out, reply.status());
            reply.lines(self.worker(), exchange, |name, value| encoder.line(out, name, value));
            reply.length_line(|name, value| encoder.line(out, name, value));
        });
    }

    async fn pass_own(
        &self,
        stream: &Stream,
        body: &[u8],
        exchange: &mut Exchange,
    ) -> Result<(), PumpFault> {
        let mut passage = self.passage(stream);
        let mut rest = Rest(body);
        poll_fn(|cx| passage.poll(cx, &mut rest, &mut exchange.response_size)).await
    }

    async fn pass_on(
        &self,
        stream: &Stream,
        answer: &mut UpstreamAnswer,
        exchange: &mut Exchange,
    ) -> Result<(), PumpFault> {
        let mut passage = self.passage(stream);
        poll_fn(|cx| {
            let Exchange { body, streamed, response_size, .. } = &mut *exchange;
            passage.poll(cx, &mut answer.body(body, streamed), response_size)
        })
        .await
    }

    fn passage<'a>(&'a self, stream: &'a Stream) -> Passage<'a> {
        Passage { session: self, stream, timer: Timer::new(&self.worker().timers) }
    }
}

/// A body on its way into DATA frames.
struct Passage<'a> {
    session: &'a Session,
    stream: &'a Stream,
    /// How long the client takes nothing.
    timer: Timer,
}

impl Passage<'_> {
    /// Passes on one frame at a time, so that streams take turns.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        passed: &mut u64,
    ) -> Poll<Result<(), PumpFault>> {
        let (stream, outgoing) = (self.stream, &self.session.outgoing);
        let mut last = None;
        loop {
            let has_data = ready!(source.poll_data(cx)).map_err(PumpFault::Source)?;
            if !has_data {
                let mut outgoing = outgoing.borrow_mut();
                let last = last.unwrap_or_else(|| outgoing.put_data(stream.id, &[]));
                outgoing.end_with(last);
                return Poll::Ready(Ok(()));
            }
            if last.is_some() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let room = ready!(self.poll_room(cx))?.min(MAX_PAYLOAD);
            let data = source.data();
            let data = data.get(..room).unwrap_or(data);
            let length = data.len();
            last = Some(outgoing.borrow_mut().put_data(stream.id, data));
            stream.sent(length);
            source.take(length);
            *passed += length as u64;
        }
    }

    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<usize, PumpFault>> {
        let of_stream = self.stream.sendable();
        let room = of_stream.min(self.session.outgoing.borrow().room());
        if room > 0 {
            self.timer.clear();
            return Poll::Ready(Ok(room));
        }
        if of_stream > 0 {
            self.stream.waits_for_room();
            self.session.is_waited_for.set(true);
        }
        let patience = self.session.worker().settings.body_timeout;
        self.timer.poll_after(cx, patience).map(|()| Err(PumpFault::Sink))
    }
}

/// What is left of an answer of the gateway's own.
struct Rest<'a>(&'a [u8]);

impl Source for Rest<'_> {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        Poll::Ready(Ok(!self.0.is_empty()))
    }

    fn data(&self) -> &[u8] {
        self.0
    }

    fn take(&mut self, length: usize) {
        self.0 = self.0.get(length..).unwrap_or_default();
    }
}
