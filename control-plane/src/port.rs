//! The admin port: tells gRPC, REST, health and metrics apart.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::{
    gate::Gate,
    metrics::Metrics,
    ready::Readiness,
    rest::{Rest, not_allowed, plain},
    store::Store,
};

/// How long the database may take to answer before it counts as away.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers every request of the admin port.
#[derive(Clone)]
pub(crate) struct AdminPort {
    pub(crate) gate: Gate,
    pub(crate) rest: Rest,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) store: Arc<dyn Store>,
}

impl AdminPort {
    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        if is_grpc(&request) {
            let request = request.map(Body::new);
            let Ok(response) = GrpcWebLayer::new().layer(self.gate).oneshot(request).await;
            return response;
        }
        let open = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/health") => self.health().await,
            (&Method::GET | &Method::HEAD, "/ready") => self.ready().await,
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (_, "/health" | "/ready" | "/metrics") => not_allowed(&[Method::GET, Method::HEAD]),
            _ => return self.rest.answer(self.gate, request).await,
        };
        if request.method() == Method::HEAD { without_body(open) } else { open }
    }

    /// Whether the control plane can do its work. Says nothing but that: it is open to all.
    async fn health(&self) -> Response<Body> {
        let answer = tokio::time::timeout(HEALTH_TIMEOUT, self.store.takes_writes()).await;
        let (code, status) = match answer {
            Ok(Ok(_)) => (StatusCode::OK, "healthy"),
            Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        };
        let body = serde_json::json!({
            "status": status,
            "timestamp": Timestamp::now().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        plain(code, "application/json", body.to_string())
    }

    /// Whether it should be sent work, and why not. Open to all, too: it names nothing of anyone's.
    async fn ready(&self) -> Response<Body> {
        let found = self.readiness.check().await;
        let (code, status) = match found.reasons[..] {
            [] => (StatusCode::OK, "ready"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        let body = serde_json::json!({
            "status": status,
            "reasons": found.reasons,
            "timestamp": Timestamp::now().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        plain(code, "application/json", body.to_string())
    }

    fn metrics(&self) -> Response<Body> {
        match self.metrics.encode() {
            Ok(text) => plain(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text,
            ),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", String::new()),
        }
    }
}

impl Service<Request<Incoming>> for AdminPort {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let port = self.clone();
        Box::pin(async move { Ok(port.answer(request).await) })
    }
}

/// What HEAD answers: as GET does, with the length of the body that is left out.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// gRPC and gRPC-Web say what they are; everything else is REST.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
