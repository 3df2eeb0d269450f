//! Sends a request to a target, again where that is safe, and hands the answer through.

use std::{
    mem,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header, uri::PathAndQuery,
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::{
    body::{BodyFault, Patience, Progress, RequestBody},
    pool::{self, ConnectFailed, Connection, Pools},
    retry::{Budget, Failure, Next},
};
use crate::{
    counters::WorkerMetrics,
    error::{Malformed, Refusal},
    framing::check_transfer_encoding,
    random::Random,
    route::CompiledRoute,
    target::{ReadyTarget, TargetSet},
};

/// One worker's way to all upstreams.
pub(crate) struct Forwarder {
    pools: Rc<Pools>,
    random: Rc<Random>,
    metrics: Arc<WorkerMetrics>,
}

/// What was tried with a request, for the audit log.
#[derive(Default)]
pub(crate) struct Trail {
    /// The target of the last attempt.
    pub(crate) target_url: Option<Arc<str>>,
    /// Times the request was sent.
    pub(crate) attempts: u32,
    /// From sending it to the head of the answer, at the last attempt.
    pub(crate) upstream_time: Duration,
}

/// A request ready to be sent: all but what depends on the target.
pub(crate) struct Outbound {
    /// The client's method.
    pub(crate) method: Method,
    /// Headers without Host.
    pub(crate) headers: HeaderMap,
    /// The same as a list, for another attempt: it costs half as much as a copy of the map.
    pub(crate) copy: Vec<(HeaderName, HeaderValue)>,
    /// The client's path and query.
    pub(crate) uri: Uri,
    /// The client's body.
    pub(crate) body: RequestBody,
    /// How far that body has come.
    pub(crate) progress: Rc<Progress>,
}

/// How one attempt ended.
enum Ended {
    /// With an answer, and the connection its body comes over.
    Answered(Response<Incoming>, Connection),
    /// With something that may be tried again.
    Failed(Failure, Refusal),
}

impl Forwarder {
    /// A forwarder without connections.
    pub(crate) fn new(random: Rc<Random>, metrics: Arc<WorkerMetrics>) -> Self {
        Self { pools: Rc::default(), random, metrics }
    }

    /// Closes connections that were idle for too long. Called every few seconds.
    pub(crate) fn sweep(&self, now: Instant) {
        self.pools.sweep(now);
    }

    /// Sends a request and waits for the head of the answer. `trail` is told of every attempt.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn send(
        &self,
        mut outbound: Outbound,
        route: &CompiledRoute,
        targets: &TargetSet,
        trail: &mut Trail,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let retries = route.route.retry_count;
        let timeout = route.route.timeout.unwrap_or(targets.timeout);
        let has_body = !outbound.body.is_absent();
        let mut budget = Budget::new(&outbound.method, has_body, retries);
        let mut tried = Vec::new();
        let mut may_reuse = true;
        loop {
            let target = targets.pick(self.random.next(), &tried).ok_or(Refusal::Unreachable)?;
            let keep_copy = budget.keeps_copy();
            let clock = Clock::new(&outbound.progress, timeout, target);
            let found = self.connection(target, targets.connect_timeout, may_reuse, &clock).await;
            let ended = match found {
                Ok((connection, reused)) => {
                    trail.attempts += 1;
                    trail.target_url = Some(target.url.clone());
                    let request = outbound.request(route, target, keep_copy)?;
                    let sent_at = Instant::now();
                    let progress = outbound.progress.clone();
                    let clock = Clock::new(&progress, timeout, target);
                    let exchange = Exchange { connection, reused, request, keep_copy };
                    let ended = exchange.run(&mut outbound, &clock).await;
                    trail.upstream_time = sent_at.elapsed();
                    ended?
                }
                Err(failed) => {
                    trail.target_url = Some(target.url.clone());
                    Ended::Failed(Failure::Connect, failed.into())
                }
            };
            let (failure, answer) = match ended {
                Ended::Answered(response, connection) => {
                    let answer = self.hand_through(response, connection, target, timeout);
                    (Failure::Status(answer.status()), Ok(answer))
                }
                Ended::Failed(failure, refusal) => {
                    self.metrics.upstream_failures.add_one();
                    (failure, Err(refusal))
                }
            };
            match budget.after(failure) {
                Next::GiveUp => return answer,
                Next::Again => tried.push(target.clone()),
                Next::AgainForFree => may_reuse = false,
            }
            self.metrics.retries.add_one();
        }
    }

    /// A connection to a target, and whether it was used before.
    async fn connection(
        &self,
        target: &ReadyTarget,
        timeout: Duration,
        may_reuse: bool,
        clock: &Clock<'_>,
    ) -> Result<(Connection, bool), ConnectFailed> {
        if may_reuse && let Some(connection) = self.pools.take(&target.authority) {
            return Ok((connection, true));
        }
        let deadline = clock.deadline().min(Instant::now() + timeout);
        // Boxed: it is seldom needed, and every request's future would have to hold it.
        let connection = Box::pin(pool::connect(target, deadline)).await?;
        self.metrics.upstream_connections.add_one();
        Ok((connection, false))
    }

    fn hand_through(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        target: &Arc<ReadyTarget>,
        timeout: Duration,
    ) -> Response<ResponseBody> {
        response.map(|incoming| ResponseBody {
            incoming,
            patience: Patience::new(timeout),
            ended: false,
            lease: Some((connection, target.clone(), self.pools.clone())),
        })
    }
}

impl Outbound {
    /// The request for a target. Without `keep_copy` its parts are given away.
    fn request(
        &mut self,
        route: &CompiledRoute,
        target: &ReadyTarget,
        keep_copy: bool,
    ) -> Result<Request<RequestBody>, Refusal> {
        let twin = self.body.empty_twin();
        // What is worth a copy has no body.
        let body = if keep_copy { twin } else { mem::replace(&mut self.body, twin) };
        let mut headers = self.take_headers(keep_copy);
        headers.insert(header::HOST, target.host.clone());
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        *request.uri_mut() = self.uri_for(route, target)?;
        Ok(request)
    }

    fn take_headers(&mut self, keep_copy: bool) -> HeaderMap {
        if !keep_copy {
            return mem::take(&mut self.headers);
        }
        if self.copy.is_empty() {
            let pairs = self.headers.iter();
            self.copy = pairs.map(|(name, value)| (name.clone(), value.clone())).collect();
            return mem::take(&mut self.headers);
        }
        self.copy.iter().cloned().collect()
    }

    /// Takes back a request that was not sent.
    fn restore(&mut self, request: Request<RequestBody>) {
        let (head, body) = request.into_parts();
        self.headers = head.headers;
        self.body = body;
    }

    fn uri_for(&self, route: &CompiledRoute, target: &ReadyTarget) -> Result<Uri, Refusal> {
        let came = self.uri.path_and_query();
        let path = route.rewrite(self.uri.path());
        let base = target.target.url.base_path();
        if let Some(came) = came.filter(|came| base.is_empty() && *came.path() == *path) {
            return Ok(Uri::from(came.clone()));
        }
        let query = self.uri.query();
        let size = base.len() + path.len() + query.map_or(0, |query| 1 + query.len());
        let mut whole = Vec::with_capacity(size);
        whole.extend_from_slice(base.as_bytes());
        whole.extend_from_slice(path.as_bytes());
        if let Some(query) = query {
            whole.push(b'?');
            whole.extend_from_slice(query.as_bytes());
        }
        PathAndQuery::from_maybe_shared(Bytes::from(whole))
            .map(Uri::from)
            // The parts were all checked; together they can only be too long.
            .map_err(|_| Refusal::Malformed(Malformed::Target))
    }
}

/// One request on one connection.
struct Exchange {
    connection: Connection,
    reused: bool,
    request: Request<RequestBody>,
    keep_copy: bool,
}

impl Exchange {
    async fn run(mut self, outbound: &mut Outbound, clock: &Clock<'_>) -> Result<Ended, Refusal> {
        let answer = self.connection.send(self.request);
        let Some(answer) = clock.in_time(answer).await else {
            return Err(Refusal::UpstreamTimeout);
        };
        let mut error = match answer {
            Ok(response) => return Ok(answered(response, self.connection)),
            Err(error) => error,
        };
        if let Some(fault) = clock.progress.fault() {
            return Err(fault.into());
        }
        let failure = match error.take_message() {
            Some(request) => {
                if !self.keep_copy {
                    outbound.restore(request);
                }
                if self.reused { Failure::NothingSent } else { Failure::Connect }
            }
            None if self.reused => Failure::Stale,
            None => Failure::Reset,
        };
        Ok(Ended::Failed(failure, Refusal::Reset))
    }
}

/// Takes an answer as it came, unless its framing can be read in two ways (RFC 9112 section 6.3):
/// then what says it less reliably goes, and the connection with it.
fn answered(mut response: Response<Incoming>, mut connection: Connection) -> Ended {
    // Nothing was offered to switch to: what comes next on the connection is no HTTP we know.
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches || check_transfer_encoding(response.headers()).is_err() {
        return Ended::Failed(Failure::Reset, Refusal::Reset);
    }
    // Each side of an intermediary speaks its own version (RFC 9110 section 2.5).
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if is_chunked && headers.remove(header::CONTENT_LENGTH).is_some() {
        connection.spoil();
    }
    Ended::Answered(response, connection)
}

/// When an attempt has taken too long. Time counts once the request body is sent: while it still
/// moves, every piece of it starts the clock anew.
struct Clock<'a> {
    progress: &'a Progress,
    total: Duration,
    attempt: Option<Duration>,
    began: Instant,
}

impl<'a> Clock<'a> {
    fn new(progress: &'a Progress, total: Duration, target: &ReadyTarget) -> Self {
        Self { progress, total, attempt: target.target.timeout, began: Instant::now() }
    }

    fn deadline(&self) -> Instant {
        let sent = self.progress.last();
        let total = sent + self.total;
        self.attempt.map_or(total, |attempt| total.min(sent.max(self.began) + attempt))
    }

    /// What comes of it, or `None` when the deadline came first.
    async fn in_time<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut timer = pin!(sleep_until(self.deadline()));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                // A client that pauses is on its own clock, see `RequestBody`.
                let deadline = match self.progress.waits_for_client() {
                    true => now + self.total,
                    false => self.deadline(),
                };
                if deadline <= now {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

/// An upstream's body on its way to the client. Gives the connection back when it was read to its end.
pub(crate) struct ResponseBody {
    incoming: Incoming,
    patience: Patience,
    ended: bool,
    lease: Option<(Connection, Arc<ReadyTarget>, Rc<Pools>)>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            return match this.patience.poll_lost(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyFault::Stalled))),
                Poll::Pending => Poll::Pending,
            };
        };
        this.patience.renew();
        this.ended = frame.is_none();
        Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyFault::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some((connection, target, pools)) = self.lease.take()
            && (self.ended || self.incoming.is_end_stream())
        {
            pools.put(&target.authority, connection);
        }
    }
}

impl From<ConnectFailed> for Refusal {
    fn from(failed: ConnectFailed) -> Self {
        match failed {
            ConnectFailed::Refused => Self::Unreachable,
            ConnectFailed::TimedOut => Self::UpstreamTimeout,
        }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Stalled => Self::BodyTimeout,
            BodyFault::TooLarge => Self::BodyTooLarge,
            BodyFault::Broken => Self::BodyBroken,
        }
    }
}
