//! One request from its head to the last byte of its answer, and the one audit event it ends in.

use std::{
    mem,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastgate::{
    audit::passed_limits::{CLIENT_GONE, UPSTREAM_RESET, UPSTREAM_TIMEOUT},
    model::{Id, Recording},
};
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::{
    audit::{Ending, Event, Texts},
    body::BodyFault,
    callers::Caller,
    error::client_gone,
    forwarding,
    head::{Kind, Lines},
    limits::{Charges, Entered, Standings},
    recorded::Recorded,
    request::RequestHead,
    request_body::{Http1Body, RequestBody},
    shared::Shared,
    upstream::{Streamed, Trail},
    watch::Busy,
};

/// A request under way. Dropping it, whenever that is, records it: so there is one event for
/// every request, and never a second.
pub(crate) struct Exchange {
    worker: Rc<Shared>,
    /// Keeps the connection from counting as idle.
    busy: Busy,
    began: Instant,
    timestamp: SystemTime,
    method: Method,
    /// Whether its event can be kept. One that finds no room is forwarded nowhere, and its event only
    /// counted, whatever else is wrong with it: the room that is left is for those under way.
    pub(crate) has_room: bool,
    /// What the client wrote.
    pub(crate) texts: Texts,
    /// How the answer ends, as far as is known.
    ending: Ending,
    /// The status of the answer; `None` while there is none.
    status: Option<StatusCode>,
    ttfb: Duration,
    /// Bytes of the answer's body that were given to the client.
    pub(crate) response_size: u64,
    /// The client's address, behind trusted proxies.
    pub(crate) client: IpAddr,
    /// What the client sends behind the head.
    pub(crate) body: RequestBody,
    /// The route that matched.
    pub(crate) route_id: Option<Id>,
    /// Whose key was sent, if it is known; also when it was refused.
    pub(crate) caller: Option<Rc<Caller>>,
    /// Why the gateway answered in place of the upstream.
    pub(crate) error: Option<&'static str>,
    /// Whether a limit refused it.
    pub(crate) rate_limited: bool,
    /// What was tried with upstreams.
    pub(crate) trail: Trail,
    /// What was seen of the body of the answer.
    pub(crate) streamed: Streamed,
    /// Its places among the requests under way.
    pub(crate) slots: Entered,
    /// What it is to be charged with when it is over.
    pub(crate) charges: Charges,
    /// Where the limits stand that it was counted against, told with whatever answer there will be.
    pub(crate) standings: Standings,
}

/// When a request began.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// For how long things take.
    pub(crate) instant: Instant,
    /// For people.
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

impl Exchange {
    /// Begins when a head was read, or could not be.
    pub(crate) fn begin(
        worker: &Rc<Shared>,
        head: &RequestHead<'_>,
        peer: IpAddr,
        (began, body, busy): (Moment, RequestBody, Busy),
    ) -> Self {
        let user_agent = head.lines.values(Kind::UserAgent).next().unwrap_or_default();
        let texts = match forwarding::sent_request_id(head.lines) {
            Some(id) => Texts::new(id, head.target.path, user_agent),
            None => {
                let id = worker.random.request_id(began.wall);
                Texts::new(&id, head.target.path, user_agent)
            }
        };
        worker.metrics.active_requests.add_one();
        let trusted = &worker.settings.trusted_proxies;
        Self {
            worker: worker.clone(),
            busy,
            began: began.instant,
            timestamp: began.wall,
            method: head.method.clone(),
            has_room: worker.recorder.has_room(),
            texts,
            ending: Ending::ClientGone,
            status: None,
            ttfb: Duration::ZERO,
            response_size: 0,
            client: forwarding::client_address(head.lines, peer, trusted),
            body,
            route_id: None,
            caller: None,
            error: None,
            rate_limited: false,
            trail: Trail::default(),
            streamed: Streamed::default(),
            slots: Entered::default(),
            charges: Charges::default(),
            standings: Standings::default(),
        }
    }

    /// When it began, by the clock on the wall.
    pub(crate) fn timestamp(&self) -> SystemTime {
        self.timestamp
    }

    /// The client's id for the request, or a new one.
    pub(crate) fn request_id(&self) -> &[u8] {
        self.texts.request_id()
    }

    /// Notes that an answer of this status begins.
    pub(crate) fn answers(&mut self, status: StatusCode) {
        self.status = Some(status);
        // Nobody is there for an answer that says so.
        if self.error != Some(CLIENT_GONE) {
            self.ttfb = self.began.elapsed();
        }
    }

    /// Notes that so much more of the answer's body is on its way to the client.
    pub(crate) fn gave(&mut self, bytes: usize) {
        self.response_size += bytes as u64;
    }

    /// Notes that the answer broke off.
    pub(crate) fn broke_off(&mut self, fault: BodyFault) {
        let (error, ending) = match fault {
            BodyFault::Stalled => (UPSTREAM_TIMEOUT, Ending::UpstreamBrokeOff),
            BodyFault::TooLarge | BodyFault::Broken => (UPSTREAM_RESET, Ending::UpstreamBrokeOff),
            BodyFault::ClientGone => (CLIENT_GONE, Ending::ClientGone),
        };
        self.error = Some(error);
        self.ending = ending;
    }

    /// Records what a route asks for, from here on.
    pub(crate) fn records(&mut self, rules: &Arc<Recording>, lines: Lines<'_>) {
        let recorded = Recorded::begin(rules, &self.worker.room, lines);
        self.body.tap = recorded.request_tap(lines, self.body.framing());
        self.streamed.recorded = Some(recorded);
    }

    /// Notes that the client was given all of the answer.
    pub(crate) fn was_given_whole(&mut self) {
        self.ending = Ending::Complete;
    }

    /// Ends, and returns what is left of a request that came over HTTP/1.1.
    pub(crate) fn end(mut self) -> Option<Http1Body> {
        self.body.take_http1()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let response_time = now.duration_since(self.began);
        self.busy.ends_at(now);
        let status = self.status.unwrap_or_else(client_gone);
        let metrics = &self.worker.metrics;
        metrics.active_requests.take_one();
        metrics.request_ended(status, response_time);
        if !self.charges.is_empty() {
            let (request, response) = (self.body.bytes(), self.response_size);
            self.worker.limiter.charge(&self.charges, request, response);
        }
        if !self.has_room {
            return self.worker.recorder.drop_one();
        }
        let mut recorded = self.streamed.recorded.take();
        let mut is_counted_only = false;
        if let Some(whole) = &mut recorded {
            whole.ends(self.body.tap.take(), self.ending == Ending::Complete);
            is_counted_only = status.is_success()
                && self.ending == Ending::Complete
                && !whole.rules.success_sample.holds(self.worker.random.next());
            if is_counted_only {
                recorded = None;
            }
        }
        let entry = self.caller.as_ref().map(|caller| &caller.entry);
        self.worker.recorder.record(Event {
            timestamp: self.timestamp,
            texts: mem::take(&mut self.texts),
            key: entry.map(|entry| entry.key.clone()),
            secret_version: entry.map_or(0, |entry| entry.version),
            route_id: self.route_id.take(),
            method: mem::take(&mut self.method),
            target_url: self.trail.target_url.take(),
            status,
            response_time,
            ttfb: self.ttfb,
            upstream_time: self.trail.upstream_time,
            request_size: self.body.bytes(),
            response_size: self.response_size,
            ip_address: self.client,
            attempts: self.trail.attempts,
            error: self.error.or((self.ending != Ending::Complete).then_some(CLIENT_GONE)),
            rate_limited: self.rate_limited,
            ending: self.ending,
            is_counted_only,
            chunks: self.streamed.chunks,
            recorded,
        });
    }
}
