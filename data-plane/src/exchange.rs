//! One request from its head to the last byte of its answer, and the one audit event it ends in.

use std::{
    mem,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fastgate::model::Id;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    audit::Event,
    forwarding,
    keys::HeldKey,
    limits::Standings,
    shared::Shared,
    upstream::{BodyFault, Progress, ResponseBody, Trail},
    watch::Busy,
};

/// What is recorded of a path. Events wait in memory for the control plane, counted by number.
const PATH: usize = 2048;

/// What is recorded of a user agent.
const USER_AGENT: usize = 512;

/// Noted when the client was gone before there was an answer.
const CLIENT_GONE: u16 = 499;

/// A request under way. Dropping it, whenever that is, records it: so there is one event for
/// every request, and never a second.
pub(crate) struct Exchange {
    worker: Rc<Shared>,
    /// Keeps the connection from counting as idle.
    busy: Busy,
    began: Instant,
    timestamp: SystemTime,
    method: Method,
    path: Bytes,
    user_agent: Bytes,
    /// The status the client was sent; `None` while there is no answer.
    status: Option<StatusCode>,
    ttfb: Duration,
    response_size: u64,
    /// The client's address, behind trusted proxies.
    pub(crate) client: IpAddr,
    /// The client's id for the request, or a new one.
    pub(crate) request_id: HeaderValue,
    /// How far the request's body has come.
    pub(crate) progress: Rc<Progress>,
    /// The route that matched.
    pub(crate) route_id: Option<Id>,
    /// The key that was sent, if it is known, and the version of its secret.
    pub(crate) key: Option<(HeldKey, u32)>,
    /// Why the gateway answered in place of the upstream.
    pub(crate) error: Option<&'static str>,
    /// Whether a limit refused it.
    pub(crate) rate_limited: bool,
    /// What was tried with upstreams.
    pub(crate) trail: Trail,
    /// Where the limits stand that it was counted against, told with whatever answer there will be.
    pub(crate) standings: Standings,
}

/// What a client's request is known by.
pub(crate) struct Heard<'a> {
    /// Where its connection came from.
    pub(crate) peer: IpAddr,
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// Whether the client has more to send of it.
    pub(crate) has_body: bool,
}

impl Exchange {
    /// Begins when a head was read, or could not be.
    pub(crate) fn begin(worker: &Rc<Shared>, heard: &Heard<'_>, busy: Busy) -> Self {
        let (began, timestamp) = (Instant::now(), SystemTime::now());
        let copy = |bytes: &[u8], bound: usize| {
            Bytes::copy_from_slice(bytes.get(..bound).unwrap_or(bytes))
        };
        let user_agent = heard.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let request_id = forwarding::sent_request_id(heard.headers)
            .and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok())
            .or_else(|| worker.random.request_id(timestamp));
        worker.metrics.active_requests.add_one();
        Self {
            worker: worker.clone(),
            busy,
            began,
            timestamp,
            method: heard.method.clone(),
            path: copy(heard.target.path().as_bytes(), PATH),
            user_agent: copy(user_agent.unwrap_or_default(), USER_AGENT),
            status: None,
            ttfb: Duration::ZERO,
            response_size: 0,
            client: forwarding::client_address(
                heard.headers,
                heard.peer,
                &worker.settings.trusted_proxies,
            ),
            request_id: request_id.unwrap_or(HeaderValue::from_static("none")),
            progress: Progress::starting(began, heard.has_body),
            route_id: None,
            key: None,
            error: None,
            rate_limited: false,
            trail: Trail::default(),
            standings: Standings::default(),
        }
    }

    /// When it began, by the clock on the wall.
    pub(crate) fn timestamp(&self) -> SystemTime {
        self.timestamp
    }

    /// Gives the answer to the client; it is recorded when its body ends.
    pub(crate) fn answer(mut self, response: Response<Answer>) -> Response<Recorded> {
        self.status = Some(response.status());
        self.ttfb = self.began.elapsed();
        self.busy.gave();
        response.map(|answer| Recorded { answer, exchange: self, ended: false })
    }

    /// Records an answer that is written whole, without hyper.
    pub(crate) fn answer_at_once(mut self, response: &Response<Bytes>) {
        self.status = Some(response.status());
        self.ttfb = self.began.elapsed();
        self.response_size = response.body().len() as u64;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let response_time = self.began.elapsed();
        if self.progress.is_unread() {
            self.busy.leave_unread();
        }
        let gone = StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST);
        let status = self.status.unwrap_or(gone);
        let metrics = &self.worker.metrics;
        metrics.active_requests.take_one();
        metrics.request_ended(status, response_time);
        let (key, secret_version) = self.key.take().unzip();
        self.worker.recorder.record(Event {
            timestamp: self.timestamp,
            request_id: Bytes::copy_from_slice(self.request_id.as_bytes()),
            key,
            secret_version: secret_version.unwrap_or(0),
            route_id: self.route_id.take(),
            method: mem::take(&mut self.method),
            path: mem::take(&mut self.path),
            target_url: self.trail.target_url.take(),
            status,
            response_time,
            ttfb: self.ttfb,
            upstream_time: self.trail.upstream_time,
            request_size: self.progress.bytes(),
            response_size: self.response_size,
            user_agent: mem::take(&mut self.user_agent),
            ip_address: self.client,
            attempts: self.trail.attempts,
            error: self.error.or(self.status.is_none().then_some("client_gone")),
            rate_limited: self.rate_limited,
        });
    }
}

/// What answers a request.
pub(crate) enum Answer {
    /// The gateway; `None` when all of it was sent.
    Own(Option<Bytes>),
    /// An upstream.
    Upstream(ResponseBody),
}

/// A body that ends its exchange.
pub(crate) struct Recorded {
    answer: Answer,
    exchange: Exchange,
    ended: bool,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        this.exchange.busy.is_asked();
        let mut frame = match &mut this.answer {
            Answer::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Answer::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        match &mut frame {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                this.exchange.response_size += size as u64;
                this.exchange.busy.gave();
                if let Some(trailers) = frame.trailers_mut() {
                    forwarding::from_upstream(trailers);
                }
            }
            Some(Err(fault)) => {
                this.ended = true;
                this.exchange.error = Some(match fault {
                    BodyFault::Stalled => "upstream_timeout",
                    BodyFault::TooLarge | BodyFault::Broken => "upstream_reset",
                });
            }
            None => this.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.answer {
            Answer::Own(bytes) => bytes.is_none(),
            Answer::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.answer {
            Answer::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Answer::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // An answer to HEAD has no body to be read, so that one alone says nothing of the client.
        let unread = !self.ended && !self.is_end_stream();
        if unread && self.exchange.method != Method::HEAD {
            self.exchange.error.get_or_insert("client_gone");
        }
    }
}
