//! The way of a request through the gateway, from top to bottom.
//!
//! ```text
//! head -> read -> match -> identify -> authorise -> admit -> send -> answer
//!          400   404/405     401          403      429/503  502/504
//! ```
//!
//! One snapshot serves a request from begin to end. Whatever becomes of it, its [`Exchange`]
//! records it once, when the last byte of the answer is out.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use fastgate::path;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::{
    admission, auth,
    error::{Malformed, Refusal},
    exchange::{Answer, Exchange, Heard, Recorded},
    forwarding::{self, Peer, Said},
    framing::{self, Asked},
    request_line::RequestLine,
    respond,
    route::{CompiledRoute, Found},
    shared::Shared,
    snapshot::Snapshot,
    upstream::{Outbound, RequestBody},
    watch::Watch,
};

/// The gateway as one connection sees it.
#[derive(Clone)]
pub(crate) struct Gateway {
    /// What all connections of a worker share.
    worker: Rc<Shared>,
    /// Who is at the other end.
    peer: Peer,
    /// Told of every request, so that the connection does not count as idle.
    watch: Rc<Watch>,
}

impl Gateway {
    /// The gateway for a connection from this address.
    pub(crate) fn new(worker: Rc<Shared>, peer: IpAddr, watch: Rc<Watch>) -> Self {
        Self { worker, peer: Peer::new(peer), watch }
    }

    /// Answers a request.
    pub(crate) async fn serve(self, request: Request<Incoming>) -> Response<Recorded> {
        let heard = Heard {
            peer: self.peer.address,
            method: request.method(),
            target: request.uri(),
            headers: request.headers(),
            has_body: !request.body().is_end_stream(),
        };
        let busy = self.watch.request(self.worker.executor.current());
        let mut exchange = Exchange::begin(&self.worker, &heard, busy);
        let proxied = self.proxy(request, &mut exchange).await;
        let mut response = proxied.unwrap_or_else(|refusal| {
            exchange.error = Some(refusal.audit_name());
            respond::refuse(&refusal, &exchange.request_id).map(|body| Answer::Own(Some(body)))
        });
        let headers = response.headers_mut();
        headers.insert(forwarding::REQUEST_ID, exchange.request_id.clone());
        respond::put_standings(&exchange.standings, headers);
        exchange.answer(response)
    }

    async fn proxy(
        &self,
        request: Request<Incoming>,
        exchange: &mut Exchange,
    ) -> Result<Response<Answer>, Refusal> {
        let worker = &*self.worker;
        let (mut head, body) = request.into_parts();
        let snapshot = worker.snapshot().ok_or(Refusal::NotReady)?;

        let has_fragment = self.watch.with_request_line(RequestLine::has_fragment);
        let route = match framing::read(&head, has_fragment)? {
            Asked::Resource { host, path } => find_route(&snapshot, &host, path, &head.method)?,
            Asked::Server => return Ok(respond::server_options().map(|_| Answer::Own(None))),
            Asked::Tunnel => return Err(Refusal::MethodNotAllowed(Vec::new())),
        };
        exchange.route_id = Some(route.route.route_id.clone());

        let sent = auth::take_sent(&mut head.headers, &worker.known)?;
        let caller = auth::identify(&snapshot.keys, &route.route, sent, &worker.known, exchange)?;
        auth::authorise(&route.route, caller)?;
        admission::admit(&worker.limiter, &snapshot, &route.route, caller, exchange).await?;

        let body = RequestBody::new(body, &exchange.progress, &worker.settings)?;
        let said = Said {
            peer: &self.peer,
            peer_is_trusted: worker.trusts(self.peer.address),
            request_id: &exchange.request_id,
            source_path: caller.map(|entry| entry.key.source_path()),
            authority: head.uri.authority().map(http::uri::Authority::as_str),
        };
        forwarding::to_upstream(&mut head.headers, &said);
        let targets = snapshot.targets(&route).ok_or(Refusal::Unreachable)?;
        let progress = exchange.progress.clone();
        let (method, uri, headers) = (head.method, head.uri, head.headers);
        let outbound = Outbound { method, headers, copy: Vec::new(), uri, body, progress };
        let sent = worker.forwarder.send(outbound, &route, targets, &mut exchange.trail);
        let mut response = sent.await?;
        forwarding::from_upstream(response.headers_mut());
        Ok(response.map(Answer::Upstream))
    }
}

/// The route of a request. It is kept beyond the head it was found by, which is changed next.
fn find_route(
    snapshot: &Snapshot,
    host: &str,
    path: &str,
    method: &Method,
) -> Result<Arc<CompiledRoute>, Refusal> {
    match snapshot.routes.find(host, path, method) {
        Found::Route(route) => {
            // Until here the path may hold `%2F`: only the route says whether it may.
            path::check(path.as_bytes(), route.route.allow_encoded_slash)
                .map_err(Malformed::Path)?;
            Ok(route.clone())
        }
        Found::MethodNotAllowed(allowed) => Err(Refusal::MethodNotAllowed(allowed)),
        Found::Nothing => Err(Refusal::NoRoute),
    }
}

/// For tower layers around the gateway; a bare one is called by its connections directly.
impl tower::Service<Request<Incoming>> for Gateway {
    type Response = Response<Recorded>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.serve(request).await) })
    }
}

mod unread;

#[cfg(test)]
mod tests;
