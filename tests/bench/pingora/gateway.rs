//! The way of a request, phase by phase: known, within its limit, rewritten, forwarded, recorded.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_core::{
    Error, ErrorSource, ErrorType, Result, modules::http::HttpModules,
    protocols::http::ServerSession, upstreams::peer::HttpPeer,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use uuid::{Uuid, fmt::Hyphenated};

use crate::{
    clients::{Client, Clients},
    records::{Record, Records},
};

static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a client's connection may be quiet: below the 15 minutes from which on Pingora takes
/// tokio's timers instead of its own, which are faster.
const KEEP_ALIVE_SECONDS: u64 = 600;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// What all requests share.
pub(crate) struct Gateway {
    prefix: String,
    upstream: String,
    /// Made once and copied: to parse its address takes longer.
    peer: HttpPeer,
    clients: Clients,
    records: Records,
    /// When the clock of the limits began.
    began: Instant,
}

/// What is known of one request.
pub(crate) struct Exchange {
    began: Instant,
    request_id: Option<HeaderValue>,
    client: Option<&'static Client>,
    is_limited: bool,
    /// Why the gateway answered in place of the upstream.
    error: &'static str,
    attempts: u32,
    sent: Option<Instant>,
    answered: Option<Instant>,
}

impl Gateway {
    pub(crate) fn new(
        prefix: String,
        upstream: String,
        clients: Clients,
        records: Records,
    ) -> Self {
        let mut peer = HttpPeer::new(&*upstream, false, String::new());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.read_timeout = Some(UPSTREAM_TIMEOUT);
        peer.options.write_timeout = Some(UPSTREAM_TIMEOUT);
        Self { prefix, upstream, peer, clients, records, began: Instant::now() }
    }

    /// The path the upstream is asked for; `None`: there is no such route.
    fn stripped<'a>(&self, request: &'a RequestHeader) -> Option<&'a str> {
        let path = request.uri.path_and_query()?.as_str();
        path.strip_prefix(&*self.prefix).filter(|rest| rest.starts_with('/'))
    }

    /// Finds who calls and counts the request; the status and the reason where it is refused.
    fn admit(
        &self,
        request: &RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<(), (u16, &'static str)> {
        self.stripped(request).ok_or((404, "no_route"))?;
        let secret = request.headers.get(&API_KEY).ok_or((401, "no_key"))?;
        let client = self.clients.find(secret.as_bytes()).ok_or((401, "key_unknown"))?;
        exchange.client = Some(client);
        let now = exchange.began.duration_since(self.began).as_nanos();
        if !client.admit(u64::try_from(now).unwrap_or(u64::MAX)) {
            exchange.is_limited = true;
            return Err((429, "rate_limited"));
        }
        Ok(())
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange {
            began: Instant::now(),
            request_id: None,
            client: None,
            is_limited: false,
            error: "",
            attempts: 0,
            sent: None,
            answered: None,
        }
    }

    /// None: the default compresses.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        session.set_keepalive(Some(KEEP_ALIVE_SECONDS));
        exchange.request_id = Some(request_id(session.req_header()));
        let Err((status, error)) = self.admit(session.req_header(), exchange) else {
            return Ok(false);
        };
        exchange.error = error;
        answer(session, exchange, status).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<Box<HttpPeer>> {
        exchange.attempts += 1;
        exchange.sent = Some(Instant::now());
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let asked = session.req_header();
        if let Some(path) = self.stripped(asked) {
            request.set_raw_path(path.as_bytes())?;
        }
        request.remove_header(&API_KEY);
        if let Some(client) = exchange.client {
            request.insert_header("X-Source-Path", client.source_path.clone())?;
        }
        if let Some(id) = &exchange.request_id {
            request.insert_header("X-Request-Id", id.clone())?;
        }
        if let Some(address) = address_of(session) {
            request.insert_header("X-Forwarded-For", address.to_string())?;
        }
        let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let scheme = HeaderValue::from_static(if is_tls { "https" } else { "http" });
        request.insert_header("X-Forwarded-Proto", scheme)?;
        if let Some(host) = request.headers.get(header::HOST).cloned() {
            request.insert_header("X-Forwarded-Host", host)?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.answered = Some(Instant::now());
        if let Some(id) = &exchange.request_id {
            response.insert_header("X-Request-Id", id.clone())?;
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let error_code = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => *status,
            (ErrorType::ReadTimedout | ErrorType::ConnectTimedout, ErrorSource::Upstream) => 504,
            (_, ErrorSource::Upstream) => 502,
            // The client went away.
            (_, ErrorSource::Downstream) => 0,
            _ => 500,
        };
        if error_code > 0 {
            let _ = answer(session, exchange, error_code).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        let end = Instant::now();
        let request = session.req_header();
        let took = end - exchange.began;
        self.records.write(&Record {
            timestamp: SystemTime::now() - took,
            request_id: text(exchange.request_id.as_ref()),
            source_path: exchange.client.map_or("", |client| text(Some(&client.source_path))),
            method: request.method.as_str(),
            path: request.uri.path(),
            target_url: if exchange.attempts > 0 { &self.upstream } else { "" },
            status_code: session.response_written().map_or(0, |answer| answer.status.as_u16()),
            response_time: took,
            request_size: session.body_bytes_read(),
            response_size: session.body_bytes_sent(),
            user_agent: text(request.headers.get(header::USER_AGENT)),
            ip_address: address_of(session),
            route_id: if exchange.error == "no_route" { "" } else { "orders" },
            upstream_time: exchange.sent.map(|sent| end - sent).unwrap_or_default(),
            ttfb: exchange.answered.map(|at| at - exchange.began).unwrap_or_default(),
            attempts: exchange.attempts,
            error: error.map_or(exchange.error, |error| error.reason_str()),
            is_limited: exchange.is_limited,
        });
    }
}

/// The client's, where it is at most 64 of `[A-Za-z0-9-]`, else a new one.
fn request_id(request: &RequestHeader) -> HeaderValue {
    let given = request.headers.get(&REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        (1..=64).contains(&id.len()) && id.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    });
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; Hyphenated::LENGTH];
        let id: &str = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// Answers in place of the upstream.
async fn answer(session: &mut Session, exchange: &Exchange, status: u16) -> Result<()> {
    let mut response = ServerSession::generate_error(status);
    if let Some(id) = &exchange.request_id {
        response.insert_header("X-Request-Id", id.clone())?;
    }
    session.write_error_response(response, Bytes::new()).await
}

fn address_of(session: &Session) -> Option<IpAddr> {
    session.client_addr()?.as_inet().map(|address| address.ip())
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
