//! The ops port: `/health`, `/ready` and `/metrics`, on the background runtime.

use std::{convert::Infallible, io, net::TcpListener, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use prometheus_client::{encoding::text, registry::Registry};
use serde_json::json;
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Ledger, identity::Identity, metrics::Metrics, snapshot::SnapshotCell, sync::Progress,
};

/// Connections served at once; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a client may take over a request head, or between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After accept failed, as it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the ops port tells of.
pub(crate) struct Ops {
    registry: Registry,
    progress: Progress,
    audit: Ledger,
    snapshots: SnapshotCell,
    /// Cancelled when the node takes no more requests.
    stop: CancellationToken,
}

impl Ops {
    /// The ops port of a node with these metrics, which takes requests until `stop` is cancelled.
    pub(crate) fn new(metrics: Metrics, snapshots: SnapshotCell, stop: CancellationToken) -> Self {
        let (progress, audit) = (metrics.progress.clone(), metrics.audit.clone());
        Self { registry: metrics.into_registry(), progress, audit, snapshots, stop }
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// When the listener can't be used.
    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let ops = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let ops = ops.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    std::future::ready(Ok::<_, Infallible>(ops.answer(&request)))
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                drop(http.serve_connection(TokioIo::new(stream), service).await);
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/health" => health(),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            _ => plain(StatusCode::NOT_FOUND, "there are /health, /ready and /metrics\n"),
        }
    }

    /// Whether requests can be served: there is a snapshot, what they do is recorded, and the node is
    /// not about to end.
    fn ready(&self) -> Response<Full<Bytes>> {
        match self.snapshots.load() {
            _ if self.stop.is_cancelled() => not_ready("the node is stopping"),
            Some(_) if self.audit.is_shut() => not_ready(
                "requests are refused, as the audit spool takes no events: the log says why",
            ),
            Some(snapshot) => {
                let mut body = json!({
                    "status": "ready",
                    "environment": snapshot.environment.as_str(),
                    "keys_revision": snapshot.keys_revision,
                    "config_revision": snapshot.config_revision,
                });
                // It serves all the same, so it is ready.
                if let (Some(why), Some(body)) =
                    (self.progress.refused_config(), body.as_object_mut())
                {
                    body.insert("config_refused".into(), why.into());
                }
                if let (true, Some(body)) = (self.progress.has_unsaved(), body.as_object_mut()) {
                    body.insert("state_unsaved".into(), true.into());
                }
                json(StatusCode::OK, &body)
            }
            None => not_ready(&self.progress.waiting_for().unwrap_or_default()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut written = String::new();
        if text::encode(&mut written, &self.registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n");
        }
        let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        respond(StatusCode::OK, format, written)
    }
}

fn not_ready(reason: &str) -> Response<Full<Bytes>> {
    json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason }))
}

/// Whether the process answers at all.
fn health() -> Response<Full<Bytes>> {
    let body = json!({
        "status": "healthy",
        "timestamp": Timestamp::now().to_string(),
        "version": Identity::VERSION,
    });
    json(StatusCode::OK, &body)
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", body.to_string())
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, format: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
    response
}
