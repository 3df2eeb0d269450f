//! The way of a request through the gateway, from top to bottom.
//!
//! ```text
//! head -> read -> match -> identify -> authorise -> admit -> send -> answer
//!          400   404/405     401          403      429/503  502/504
//! ```
//!
//! One snapshot serves a request from begin to end. Whatever becomes of it, its [`Exchange`]
//! records it once, when the last byte of the answer is out.

use std::rc::Rc;

use fastgate::path;
use http::Method;

use crate::{
    admission, auth,
    error::{Malformed, Refusal},
    exchange::Exchange,
    forwarding::{Peer, Said},
    reply::Reply,
    request::{Asked, RequestHead},
    respond,
    route::{CompiledRoute, Found},
    shared::Shared,
    snapshot::Snapshot,
    upstream::Outbound,
};

/// The gateway as one connection sees it.
#[derive(Clone)]
pub(crate) struct Gateway {
    /// What all connections of a worker share.
    pub(crate) worker: Rc<Shared>,
    /// Who is at the other end.
    pub(crate) peer: Rc<Peer>,
}

impl Gateway {
    /// Answers a request. Its exchange is told what there is to be recorded.
    pub(crate) async fn serve(&self, head: &RequestHead<'_>, exchange: &mut Exchange) -> Reply {
        match self.proxy(head, exchange).await {
            Ok(reply) => reply,
            Err(refusal) => self.refuse(&refusal, exchange),
        }
    }

    /// Answers in place of an upstream.
    pub(crate) fn refuse(&self, refusal: &Refusal, exchange: &mut Exchange) -> Reply {
        exchange.error = Some(refusal.audit_name());
        Reply::Own(respond::refuse(refusal, exchange.request_id()))
    }

    async fn proxy(
        &self,
        head: &RequestHead<'_>,
        exchange: &mut Exchange,
    ) -> Result<Reply, Refusal> {
        let worker = &*self.worker;
        let snapshot = worker.snapshot().ok_or(Refusal::NotReady)?;

        let (host, path) = match head.asked()? {
            Asked::Resource { host, path } => (host, path),
            Asked::Server => return Ok(Reply::Own(respond::server_options())),
            Asked::Tunnel => return Err(Refusal::MethodNotAllowed(Vec::new())),
        };
        let route = find_route(&snapshot, &host, path, head.method)?;
        exchange.route_id = Some(route.route.route_id.clone());

        let key = auth::sent(head.lines, &worker.known)?;
        let caller =
            auth::identify(&snapshot.keys, &route.route, key.sent, &worker.known, exchange)?;
        auth::authorise(&route.route, caller)?;
        admission::admit(&worker.limiter, &snapshot, &route.route, caller, exchange).await?;

        if exchange.body.is_too_large() {
            return Err(Refusal::BodyTooLarge);
        }
        let targets = snapshot.targets(route).ok_or(Refusal::Unreachable)?;
        let Exchange { texts, body, trail, .. } = &mut *exchange;
        let said = Said {
            peer: &self.peer,
            peer_is_trusted: worker.trusts(self.peer.address),
            request_id: texts.request_id(),
            source_path: caller.map(|entry| entry.key.source_path()),
            bearer_is_key: key.is_bearer,
        };
        let outbound = Outbound { head, path, said };
        let answer = worker.forwarder.send(&outbound, body, (route, targets), trail).await?;
        Ok(Reply::Upstream(answer))
    }
}

/// The route of a request.
fn find_route<'a>(
    snapshot: &'a Snapshot,
    host: &str,
    path: &str,
    method: &Method,
) -> Result<&'a CompiledRoute, Refusal> {
    match snapshot.routes.find(host, path, method) {
        Found::Route(route) => {
            // Until here the path may hold `%2F`: only the route says whether it may.
            path::check(path.as_bytes(), route.route.allow_encoded_slash)
                .map_err(Malformed::Path)?;
            Ok(route)
        }
        Found::MethodNotAllowed(allowed) => Err(Refusal::MethodNotAllowed(allowed)),
        Found::Nothing => Err(Refusal::NoRoute),
    }
}

#[cfg(test)]
mod tests;
