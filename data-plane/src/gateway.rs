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
    callers::Caller,
    error::{Malformed, Refusal},
    exchange::Exchange,
    fatal::{self, When},
    forwarding::{Peer, Said},
    reply::Reply,
    request::{Asked, RequestHead},
    respond,
    route::{CompiledRoute, Found},
    shared::Shared,
    snapshot::{InUse, Snapshot},
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
        if !exchange.has_room {
            return Err(Refusal::AuditSpoolFull);
        }

        let (host, path) = match head.asked()? {
            Asked::Resource { host, path } => (host, path),
            Asked::Server => return Ok(Reply::Own(respond::server_options())),
            Asked::Tunnel => return Err(Refusal::MethodNotAllowed(Vec::new())),
        };
        let admitted = self.admit(&snapshot, (&host, path), head, exchange).await?;
        if exchange.body.is_too_large() {
            return Err(Refusal::BodyTooLarge);
        }
        let route = admitted.route;
        let targets = snapshot.targets(route).ok_or(Refusal::Unreachable)?;
        let Exchange { texts, body, trail, .. } = &mut *exchange;
        let outbound = self.outbound(head, path, &admitted, texts.request_id());
        let answer = worker.forwarder.send(&outbound, body, (route, targets), trail).await?;
        exchange.charges.learn(|name| answer.lines().number(name.as_str()));
        if let Some(recorded) = &mut exchange.streamed.recorded {
            recorded.answer_begins(answer.lines(), answer.framing());
        }
        Ok(Reply::Upstream(answer))
    }

    /// Lets a request pass, or says why not.
    async fn admit<'a>(
        &self,
        snapshot: &'a InUse,
        (host, path): (&str, &str),
        head: &RequestHead<'_>,
        exchange: &mut Exchange,
    ) -> Result<Admitted<'a>, Refusal> {
        let Shared { callers, limiter, .. } = &*self.worker;
        let found = find_route(snapshot, host, path, head.method)?;
        let route = &found.route;
        fatal::kill(When::Asked, |id| id == route.route_id.as_str());
        exchange.route_id = Some(route.route_id.clone());
        if let Some(rules) = &route.recording {
            exchange.records(rules, head.lines);
        }
        let key = auth::sent(head.lines, callers)?;
        let (now, met) = (exchange.timestamp(), &mut exchange.caller);
        let caller = auth::identify(snapshot, route, key.sent, callers, (now, met))?;
        auth::authorise(route, caller.as_deref())?;
        admission::admit(limiter, snapshot, route, caller.as_deref(), exchange).await?;
        Ok(Admitted { route: found, caller, bearer_is_key: key.is_bearer })
    }

    /// What an upstream is sent and told of a request.
    fn outbound<'a>(
        &'a self,
        head: &'a RequestHead<'a>,
        path: &'a str,
        admitted: &'a Admitted<'a>,
        request_id: &'a [u8],
    ) -> Outbound<'a> {
        let said = Said {
            peer: &self.peer,
            peer_is_trusted: self.worker.trusts(self.peer.address),
            request_id,
            source_path: admitted.caller.as_ref().map(|caller| &*caller.source_path),
            bearer_is_key: admitted.bearer_is_key,
        };
        Outbound { head, path, said }
    }
}

/// A request that may pass.
struct Admitted<'a> {
    route: &'a CompiledRoute,
    /// Whose key it was made with.
    caller: Option<Rc<Caller>>,
    /// Whether the key stands in `Authorization`.
    bearer_is_key: bool,
}

/// The route of a request.
fn find_route<'a>(
    snapshot: &'a Snapshot,
    host: &str,
    path: &str,
    method: &Method,
) -> Result<&'a CompiledRoute, Refusal> {
    taken(snapshot.routes.find(host, path, method), path)
}

/// The same, once it is looked for.
///
/// # Errors
/// Why there is none for this path.
pub(crate) fn taken<'a>(found: Found<'a>, path: &str) -> Result<&'a CompiledRoute, Refusal> {
    match found {
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

#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
#[cfg(test)]
mod tests;
