//! The way of a request for benchmarks: from a parsed head to the one for the upstream.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use fastgate::model::Id;
use http::uri::Scheme;
use tokio::time::Instant;

use super::Gateway;
use crate::{
    Settings, admission,
    audit::{Tap, ring},
    auth,
    callers::Caller,
    compile::bench::guarded,
    exchange::{Exchange, Moment},
    falls::falls,
    forwarding::Peer,
    framing::Framing,
    head::Lines,
    limits::Limiter,
    request::{self, Asked, Parsed, RequestHead, Target},
    request_body::{Bounds, RequestBody},
    shared::{Brought, Shared},
    snapshot::{InUse, SnapshotCell},
    watch::Watch,
};

/// A request that was read, and a worker that serves it.
pub struct RequestPath {
    gateway: Gateway,
    watch: Rc<Watch>,
    snapshot: InUse,
    /// Whose key it is.
    caller: Rc<Caller>,
    /// `None`: somebody else has them.
    events: Option<Tap>,
    bytes: Vec<u8>,
    parsed: Parsed,
    out: Vec<u8>,
}

impl RequestPath {
    /// Requests after which [`RequestPath::take_records`] has to be called: a full ring takes no
    /// record, which is another thing to measure.
    pub const ROUND: u64 = 4096;

    /// The way of a request with this head, in which `KEY` stands for a key that opens the only
    /// route, which is `/api`.
    #[must_use]
    pub fn of(head: &str) -> Self {
        let cell = SnapshotCell::default();
        let (compiler, secret) = guarded();
        cell.store(compiler.snapshot(1, 1));
        let (recorder, events) = ring(Self::ROUND as usize);
        let id = |text| Id::parse(text).expect("an id");
        let brought = Brought {
            settings: Arc::new(Settings::new(id("default"), id("node-1"))),
            snapshots: cell.reader(),
            limiter: Limiter::new(&id("default"), None).expect("no Redis").for_worker(),
            recorder,
            metrics: Arc::default(),
            falls: falls().0,
        };
        let worker = Shared::new(brought).expect("random bytes");
        let snapshot = worker.snapshot().expect("stored before");
        let peer = Rc::new(Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Scheme::HTTP));
        let bytes = head.replace("KEY", secret.expose()).into_bytes();
        let parsed = request::parse(&bytes).expect("a head").expect("to its end");
        let (gateway, watch) = (Gateway { worker, peer }, Watch::new(Instant::now()));
        let hash = secret.hash();
        let entry = snapshot.keys.get(&hash).expect("a key");
        let caller = Caller::new(hash, entry, snapshot.generation);
        let out = Vec::with_capacity(4096);
        Self { gateway, watch, snapshot, caller, events: Some(events), bytes, parsed, out }
    }

    /// The collector's part of what becomes of the records from now on, with a spool in `dir`.
    ///
    /// # Panics
    /// When they were taken before.
    #[cfg(feature = "bench")]
    pub fn batches(&mut self, dir: &std::path::Path) -> crate::audit::bench::Batches {
        crate::audit::bench::Batches::of(self.events.take().expect("not taken yet"), dir)
    }

    /// Goes all of it, and records it. The length of the head for the upstream; 0: it was refused.
    pub fn run(&mut self) -> usize {
        let Self { gateway, snapshot, out, .. } = self;
        let head = head(&self.bytes, &self.parsed);
        let mut exchange = begin(gateway, &self.watch, &head);
        out.clear();
        let Ok(Asked::Resource { host, path }) = head.asked() else { return 0 };
        let admitted = now(gateway.admit(snapshot, (&host, path), &head, &mut exchange));
        let Ok(admitted) = admitted else { return 0 };
        let outbound = gateway.outbound(&head, path, &admitted, exchange.request_id());
        let targets = snapshot.targets(admitted.route).expect("it has some");
        let target = targets.pick(0, &[]).expect("one");
        outbound.write(out, admitted.route, target, Framing::Absent);
        out.len()
    }

    /// Looks for the key and for what it opens.
    pub fn authenticate(&mut self) -> bool {
        let head = head(&self.bytes, &self.parsed);
        let mut exchange = begin(&self.gateway, &self.watch, &head);
        let callers = &self.gateway.worker.callers;
        let Ok(Asked::Resource { host, path }) = head.asked() else { return false };
        let found = super::find_route(&self.snapshot, &host, path, head.method);
        let (Ok(found), Ok(key)) = (found, auth::sent(head.lines, callers)) else { return false };
        let (now, met) = (exchange.timestamp(), &mut exchange.caller);
        auth::identify(&self.snapshot, &found.route, key.sent, callers, (now, met))
            .is_ok_and(|caller| auth::authorise(&found.route, caller.as_deref()).is_ok())
    }

    /// Counts the request against the limits of its key and its route, and finds both for that.
    pub fn limit(&mut self) -> bool {
        let head = head(&self.bytes, &self.parsed);
        let mut exchange = begin(&self.gateway, &self.watch, &head);
        let Ok(Asked::Resource { host, path }) = head.asked() else { return false };
        let found = super::find_route(&self.snapshot, &host, path, head.method).expect("a route");
        let (limiter, snapshot) = (&self.gateway.worker.limiter, &self.snapshot);
        let caller = Some(&*self.caller);
        let admitted =
            now(admission::admit(limiter, snapshot, &found.route, caller, &mut exchange));
        // A limit that was not counted against has no standing.
        admitted.is_ok() && exchange.standings.iter().count() == 2
    }

    /// Begins a request and records it.
    pub fn record(&mut self) {
        drop(begin(&self.gateway, &self.watch, &head(&self.bytes, &self.parsed)));
    }

    /// Takes what was recorded out of the worker's ring; how many records there were.
    pub fn take_records(&mut self) -> u64 {
        std::iter::from_fn(|| self.events.as_mut()?.pop()).count() as u64
    }
}

fn head<'a>(bytes: &'a [u8], parsed: &'a Parsed) -> RequestHead<'a> {
    RequestHead {
        method: &parsed.method,
        target: Target::parse(bytes.get(parsed.target.clone()).unwrap_or_default()),
        version: parsed.version,
        lines: Lines::new(bytes, &parsed.index),
    }
}

fn begin(gateway: &Gateway, watch: &Rc<Watch>, head: &RequestHead<'_>) -> Exchange {
    let Shared { settings, timers, .. } = &*gateway.worker;
    let (began, timeout) = (Moment::now(), settings.body_timeout);
    let bounds = Bounds { began: began.instant, max_size: None, timeout, timers };
    let body = RequestBody::absent(&bounds);
    let busy = watch.request();
    Exchange::begin(&gateway.worker, head, gateway.peer.address, (began, body, busy))
}

/// What comes of something that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("limits are counted in the process"),
    }
}
