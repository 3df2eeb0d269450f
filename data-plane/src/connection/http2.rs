//! HTTP/2 with a client, by hyper: its requests are put into the form all others have, its answers
//! into the one hyper takes.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};

use crate::{
    body::{BodyFault, Source as _},
    error::Refusal,
    exchange::{Exchange, Moment},
    executor::LocalExecutor,
    framing::{Framing, Said},
    gateway::Gateway,
    head::{Index, Kind, Lines, MAX_LINES},
    reply::Reply,
    request::{RequestHead, Target, Version},
    request_body::{Bounds, RequestBody},
    socket::SocketIo,
    watch::{Order, Watch},
};

/// Larger request heads are refused with 431.
const MAX_HEAD: u32 = 64 * 1024;
/// Streams of one connection.
const MAX_STREAMS: u32 = 128;

/// How it is spoken.
pub(crate) struct Http2(http2::Builder<LocalExecutor>);

impl Http2 {
    /// Streams run on this executor.
    pub(crate) fn new(executor: LocalExecutor) -> Self {
        let mut builder = http2::Builder::new(executor);
        builder.max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD);
        Self(builder)
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, io: SocketIo, gateway: Gateway, watch: Rc<Watch>) {
        let service = TowerToHyperService::new(Streams { gateway, watch: watch.clone() });
        let mut connection = pin!(self.0.serve_connection(TokioIo::new(io), service));
        let mut is_finishing = false;
        poll_fn(|cx| {
            match watch.poll_order(cx) {
                Order::Abort => return Poll::Ready(()),
                Order::Finish if !is_finishing => {
                    is_finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Order::GoOn | Order::RefuseHead | Order::Finish => {}
            }
            // How a connection ends is of interest to nobody: each request has its record.
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
    }
}

/// The gateway as a service of tower, for what comes as requests of the `http` crate.
#[derive(Clone)]
struct Streams {
    gateway: Gateway,
    /// Told of every request, so that the connection does not count as idle.
    watch: Rc<Watch>,
}

impl tower::Service<Request<Incoming>> for Streams {
    type Response = Response<Http2Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let streams = self.clone();
        Box::pin(async move { Ok(streams.answer(request).await) })
    }
}

impl Streams {
    async fn answer(&self, request: Request<Incoming>) -> Response<Http2Body> {
        let began = Moment::now();
        let worker = &self.gateway.worker;
        let (parts, incoming) = request.into_parts();
        let (mut bytes, mut index) = (worker.buffers.take(), Index::default());
        for (name, value) in &parts.headers {
            index.push(&mut bytes, name.as_str().as_bytes(), value.as_bytes());
        }
        let head = RequestHead {
            method: &parts.method,
            target: Target::of_uri(&parts.uri),
            version: Version::Http2,
            lines: Lines::new(&bytes, &index),
        };
        // Codings of a connection have no place in HTTP/2 (RFC 9113 section 8.2.2).
        let said = Said::by_request(head.lines, false);
        let framing = match said.map_or(Framing::Absent, |said| said.framing) {
            Framing::Absent if !incoming.is_end_stream() => Framing::Chunked,
            framing => framing,
        };
        let bounds = Bounds {
            began: began.instant,
            max_size: worker.settings.max_body_size,
            timeout: worker.settings.body_timeout,
            timers: &worker.timers,
        };
        let body = RequestBody::over_http2(incoming, framing, &bounds);
        let busy = self.watch.request(worker.executor.current());
        let peer = self.gateway.peer.address;
        let mut exchange = Exchange::begin(worker, &head, peer, (began, body, busy));
        let reply = match said {
            Ok(_) if parts.headers.len() > MAX_LINES => {
                self.gateway.refuse(&Refusal::HeadTooLarge, &mut exchange)
            }
            Ok(_) => self.gateway.serve(&head, &mut exchange).await,
            Err(doubt) => self.gateway.refuse(&doubt.into(), &mut exchange),
        };
        worker.buffers.give_back(&mut bytes);
        self.give(reply, exchange)
    }

    fn give(&self, reply: Reply, mut exchange: Exchange) -> Response<Http2Body> {
        exchange.answers(reply.status());
        let mut response = Response::new(());
        *response.status_mut() = reply.status();
        let headers = response.headers_mut();
        reply.lines(&self.gateway.worker, &exchange, |name, value| {
            // What the parser of HTTP/1.1 lets pass, these take too.
            let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(mut value)) = (name, value) {
                // Put into the table of compressed headers, it would only push others out.
                value.set_sensitive(is_new_each_time(name.as_str()));
                headers.append(name, value);
            }
        });
        if let Reply::Upstream(answer) = &reply {
            let length = answer.lines().values(Kind::ContentLength).next();
            let is_told = matches!(answer.framing(), Framing::Absent | Framing::Length(_));
            let length =
                length.filter(|_| is_told).and_then(|text| HeaderValue::from_bytes(text).ok());
            length.map(|length| headers.insert(header::CONTENT_LENGTH, length));
        }
        response.map(|()| Http2Body { reply: Some(reply), exchange })
    }
}

/// Whether no two answers say the same in it.
fn is_new_each_time(name: &str) -> bool {
    matches!(name, "x-request-id" | "ratelimit")
}

/// An answer's body. Dropping it ends the exchange.
struct Http2Body {
    /// `None` when all of it was given.
    reply: Option<Reply>,
    exchange: Exchange,
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        this.exchange.is_asked();
        let data = match &mut this.reply {
            None => None,
            Some(Reply::Own(response)) => Some(std::mem::take(response.body_mut())),
            Some(Reply::Upstream(answer)) => {
                let mut body = answer.body(&mut this.exchange.body);
                match ready!(body.poll_data(cx)) {
                    Ok(true) => {
                        let data = Bytes::copy_from_slice(body.data());
                        body.take(data.len());
                        Some(data)
                    }
                    Ok(false) => None,
                    Err(fault) => {
                        this.exchange.broke_off(fault);
                        return Poll::Ready(Some(Err(fault)));
                    }
                }
            }
        };
        if !matches!(this.reply, Some(Reply::Upstream(_))) || data.is_none() {
            if let Some(Reply::Upstream(answer)) = this.reply.take() {
                answer.finish();
            }
            this.exchange.was_given_whole();
        }
        let data = data.filter(|data| !data.is_empty());
        if let Some(data) = &data {
            this.exchange.gave(data.len());
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.reply {
            None => true,
            Some(Reply::Own(response)) => response.body().is_empty(),
            Some(Reply::Upstream(answer)) => answer.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reply {
            None => SizeHint::with_exact(0),
            Some(Reply::Own(response)) => SizeHint::with_exact(response.body().len() as u64),
            Some(Reply::Upstream(_)) => SizeHint::default(),
        }
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        // An answer to HEAD has no body to be read, so that one alone says nothing of the client.
        let is_whole = self.is_end_stream();
        if is_whole || *self.exchange.method() == Method::HEAD {
            self.exchange.was_given_whole();
        }
        if let Some(Reply::Upstream(answer)) = self.reply.take() {
            answer.finish();
        }
    }
}
