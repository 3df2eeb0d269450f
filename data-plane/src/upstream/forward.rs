//! Sends a request to a target, again where that is safe, and hands the answer through.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Method;
use tokio::time::Instant;

use super::{
    answer::UpstreamAnswer,
    connection::{Connection, NoAnswer},
    pool::{self, ConnectFailed, Pools},
    retry::{Budget, Failure, Next},
};
use crate::{
    body::{BodyFault, Coding, Pump, PumpFault},
    buffers::Buffers,
    counters::WorkerMetrics,
    error::Refusal,
    forwarding::{self, Addressed, Said},
    framing::Framing,
    random::Random,
    request::RequestHead,
    request_body::RequestBody,
    route::CompiledRoute,
    target::{ReadyTarget, TargetSet},
    timers::{Timer, Timers},
};

/// One worker's way to all upstreams.
pub(crate) struct Forwarder {
    pools: Rc<Pools>,
    buffers: Rc<Buffers>,
    timers: Rc<Timers>,
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
pub(crate) struct Outbound<'a> {
    /// The client's head.
    pub(crate) head: &'a RequestHead<'a>,
    /// Its path.
    pub(crate) path: &'a str,
    /// What is told besides.
    pub(crate) said: Said<'a>,
}

/// How one attempt ended, if not with an answer.
enum Lost {
    /// In a way that may be tried again.
    Failed(Failure, Refusal),
    /// For good.
    Refused(Refusal),
}

impl Forwarder {
    /// A forwarder without connections.
    pub(crate) fn new(
        buffers: Rc<Buffers>,
        timers: Rc<Timers>,
        random: Rc<Random>,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self { pools: Rc::default(), buffers, timers, random, metrics }
    }

    /// Closes connections that were idle for too long. Called by the worker's patrol.
    pub(crate) fn sweep(&self, now: Instant) {
        self.pools.sweep(now);
    }

    /// Sends a request and waits for the head of the answer. `trail` is told of every attempt.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn send(
        &self,
        outbound: &Outbound<'_>,
        body: &mut RequestBody,
        (route, targets): (&CompiledRoute, &TargetSet),
        trail: &mut Trail,
    ) -> Result<UpstreamAnswer, Refusal> {
        let timeout = route.route.timeout.unwrap_or(targets.timeout);
        let has_body = !body.has_ended();
        let mut budget = Budget::new(outbound.head.method, has_body, route.route.retry_count);
        let mut tried = Vec::new();
        let mut may_reuse = true;
        loop {
            let target = targets.pick(self.random.next(), &tried).ok_or(Refusal::Unreachable)?;
            let clock = Clock::new(timeout, target);
            trail.target_url = Some(target.url.clone());
            let deadline = clock.deadline(body).min(clock.began + targets.connect_timeout);
            let attempted = match self.connection(target, deadline, may_reuse).await {
                Ok((connection, reused)) => {
                    let framing = body.framing();
                    let mut attempt = self.begin(outbound, route, target, connection, framing);
                    // Counted before it is sent, for a request that ends meanwhile is recorded too.
                    trail.attempts += 1;
                    let ended = attempt.run(outbound.head.method, body, &clock, reused).await;
                    trail.attempts -= u32::from(!attempt.upload.pump.has_written());
                    trail.upstream_time = clock.began.elapsed();
                    ended.map(|()| attempt)
                }
                Err(failed) => Err(Lost::Failed(Failure::Connect, failed.into())),
            };
            let (failure, outcome) = match attempted {
                Ok(attempt) => {
                    let answer = attempt.into_answer(target, &self.pools, timeout);
                    (Failure::Status(answer.status()), Ok(answer))
                }
                Err(Lost::Refused(refusal)) => return Err(refusal),
                Err(Lost::Failed(failure, refusal)) => {
                    self.metrics.upstream_failures.add_one();
                    (failure, Err(refusal))
                }
            };
            match budget.after(failure) {
                Next::GiveUp => return outcome,
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
        deadline: Instant,
        may_reuse: bool,
    ) -> Result<(Box<Connection>, bool), ConnectFailed> {
        if may_reuse && let Some(connection) = self.pools.take(&target.authority) {
            return Ok((connection, true));
        }
        // Boxed: it is seldom needed, and every request's future would have to hold it.
        let connection = Box::pin(pool::connect(target, deadline, &self.buffers)).await?;
        self.metrics.upstream_connections.add_one();
        Ok((connection, false))
    }

    fn begin(
        &self,
        outbound: &Outbound<'_>,
        route: &CompiledRoute,
        target: &ReadyTarget,
        connection: Box<Connection>,
        framing: Framing,
    ) -> Attempt {
        let mut head = self.buffers.take();
        outbound.write(&mut head, route, target, framing);
        let coding = match framing {
            Framing::Absent | Framing::Length(_) => Coding::Plain,
            Framing::Chunked | Framing::UntilClose => Coding::Chunked,
        };
        let upload = Upload { pump: Pump::new(head, coding), is_over: false };
        Attempt { connection, upload, timer: Timer::new(&self.timers) }
    }
}

impl Outbound<'_> {
    /// Writes the head for a target.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        route: &CompiledRoute,
        target: &ReadyTarget,
        framing: Framing,
    ) {
        let path = route.rewrite(self.path);
        let base = target.target.url.base_path();
        let to = Addressed { host: target.host.as_bytes(), base, path: &path, framing };
        forwarding::write_request(out, self.head, &to, &self.said);
    }
}

/// One request on one connection.
struct Attempt {
    connection: Box<Connection>,
    upload: Upload,
    timer: Timer,
}

impl Attempt {
    /// Waits for the head of the answer.
    async fn run(
        &mut self,
        method: &Method,
        body: &mut RequestBody,
        clock: &Clock,
        reused: bool,
    ) -> Result<(), Lost> {
        let waited = poll_fn(|cx| self.poll_head(cx, method, body, clock)).await;
        let no_answer = match waited {
            Ok(Ok(())) => {
                self.timer.clear();
                return Ok(());
            }
            Ok(Err(no_answer)) => no_answer,
            Err(refusal) => return Err(Lost::Refused(refusal)),
        };
        let failure = match no_answer {
            _ if self.upload.pump.is_unused() && reused => Failure::NothingSent,
            _ if self.upload.pump.is_unused() => Failure::Connect,
            NoAnswer::Closed if reused => Failure::Stale,
            NoAnswer::Closed | NoAnswer::Bad => Failure::Reset,
        };
        Err(Lost::Failed(failure, Refusal::Reset))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        body: &mut RequestBody,
        clock: &Clock,
    ) -> Poll<Result<Result<(), NoAnswer>, Refusal>> {
        self.upload.poll(cx, &mut self.connection, body)?;
        if self.upload.is_over && self.upload.pump.is_unused() {
            return Poll::Ready(Ok(Err(NoAnswer::Closed)));
        }
        if let Poll::Ready(answered) = self.connection.poll_head(cx, method) {
            return Poll::Ready(Ok(answered));
        }
        if body.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Refusal::ClientGone));
        }
        self.timer.poll(cx, || clock.deadline(body)).map(|()| Err(Refusal::UpstreamTimeout))
    }

    fn into_answer(
        self,
        target: &Arc<ReadyTarget>,
        pools: &Rc<Pools>,
        timeout: Duration,
    ) -> UpstreamAnswer {
        let Self { connection, upload, timer } = self;
        UpstreamAnswer::new(connection, upload, timer, timeout, (target.clone(), pools.clone()))
    }
}

/// A request on its way to a target.
pub(super) struct Upload {
    pump: Pump,
    /// Nothing more will be written: all was, or the target takes no more.
    is_over: bool,
}

impl Upload {
    /// Writes on.
    ///
    /// # Errors
    /// Why the client's body broke off. That a target takes no more is no error: its answer may
    /// say why.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        body: &mut RequestBody,
    ) -> Result<(), BodyFault> {
        if self.is_over {
            return Ok(());
        }
        let written = self.pump.poll(cx, body, |cx, parts| connection.poll_write(cx, parts));
        match written {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.is_over = true;
                self.pump.give_back(connection.buffers());
            }
            Poll::Ready(Err(PumpFault::Sink)) => self.is_over = true,
            Poll::Ready(Err(PumpFault::Source(fault))) => return Err(fault),
        }
        Ok(())
    }

    /// Sends no more of it.
    pub(super) fn give_up(&mut self) {
        self.is_over = true;
    }

    /// Whether the target has all of the request.
    pub(super) fn is_done(&self) -> bool {
        self.pump.is_done()
    }
}

/// When an attempt has taken too long. Time counts once the request body is sent: while it still
/// moves, every piece of it starts the clock anew.
struct Clock {
    total: Duration,
    attempt: Option<Duration>,
    began: Instant,
}

impl Clock {
    fn new(total: Duration, target: &ReadyTarget) -> Self {
        Self { total, attempt: target.target.timeout, began: Instant::now() }
    }

    fn deadline(&self, body: &RequestBody) -> Instant {
        // A client that pauses is on its own clock, see `RequestBody`.
        let sent = if body.waits_for_client() { Instant::now() } else { body.last() };
        let total = sent + self.total;
        self.attempt.map_or(total, |attempt| total.min(sent.max(self.began) + attempt))
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
            BodyFault::ClientGone => Self::ClientGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Shutdown};

    use fastgate::{admin::v1, model};
    use http::uri::Scheme;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        forwarding::Peer,
        head::{Index, Lines},
        request::{Target, Version},
        request_body::Bounds,
    };

    fn forwarder() -> Forwarder {
        let random = Rc::new(Random::seeded().expect("random bytes"));
        Forwarder::new(Rc::default(), Rc::default(), random, Arc::default())
    }

    /// A route to this address.
    fn route(address: &str) -> (CompiledRoute, Arc<TargetSet>) {
        let targets = vec![v1::Target { url: format!("http://{address}"), ..Default::default() }];
        let wire =
            v1::Route { route_id: "r".into(), path: "/".into(), targets, ..Default::default() };
        let route = model::Route::parse(&wire).expect("a route");
        let model::Destination::Targets(targets) = &route.destination else { panic!("its own") };
        let set = Arc::new(TargetSet::new(targets, Duration::from_secs(5)).expect("targets"));
        (CompiledRoute::new(route, Some(set.clone())), set)
    }

    /// Sends a GET to the targets.
    async fn send(
        forwarder: &Forwarder,
        (route, targets): (&CompiledRoute, &TargetSet),
        trail: &mut Trail,
    ) -> Result<UpstreamAnswer, Refusal> {
        let index = Index::default();
        let head = RequestHead {
            method: &Method::GET,
            target: Target::parse(b"/"),
            version: Version::Http11,
            lines: Lines::new(&[], &index),
        };
        let peer = Peer::new(Ipv4Addr::LOCALHOST.into(), Scheme::HTTP);
        let said = Said {
            peer: &peer,
            peer_is_trusted: false,
            request_id: b"1",
            source_path: None,
            bearer_is_key: false,
        };
        let outbound = Outbound { head: &head, path: "/", said };
        let (began, timeout) = (Instant::now(), Duration::from_secs(5));
        let bounds = Bounds { began, max_size: None, timeout, timers: &forwarder.timers };
        let mut body = RequestBody::absent(&bounds);
        forwarder.send(&outbound, &mut body, (route, targets), trail).await
    }

    #[tokio::test]
    async fn a_pooled_connection_nothing_could_be_written_to_is_no_attempt() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let forwarder = forwarder();
        let pooled = TcpStream::connect(&address).await.expect("connects");
        // The other side says nothing of it, so that it counts as quiet.
        let held = listener.accept().await.expect("accepts");
        socket2::SockRef::from(&pooled).shutdown(Shutdown::Write).expect("open until now");
        let pooled = Connection::new(pooled, forwarder.buffers.clone());
        forwarder.pools.put(&address, Box::new(pooled));
        let answer = async {
            let (mut stream, _) = listener.accept().await.expect("a connection of its own");
            drop(stream.read(&mut [0; 1024]).await);
            drop(stream.write_all(b"HTTP/1.1 204 Nothing\r\n\r\n").await);
            stream
        };
        let (route, targets) = route(&address);
        let mut trail = Trail::default();
        let (sent, _stream) =
            tokio::join!(send(&forwarder, (&route, &targets), &mut trail), answer);
        assert_eq!(sent.map(|answer| answer.status().as_u16()).ok(), Some(204));
        assert_eq!(trail.attempts, 1);
        drop(held);
    }
}
