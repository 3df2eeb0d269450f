//! The one way to every admin method, for gRPC and REST alike: a deadline, access, then the service.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};

use crate::{
    access::{Access, needed},
    error::Error,
    metrics::Metrics,
};

/// How long a call may take, its message included. A stream must have begun to answer by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long the rest of a refused request is waited for, and how much of it is read. A stream of HTTP/2 that
/// is answered before it has ended is reset behind the answer (RFC 9113 section 8.1), and clients lose that.
const PATIENCE: Duration = Duration::from_millis(100);
const READ_ON: usize = 64 << 10;

/// Every service of the admin port, behind access control.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) access: Access,
    pub(crate) metrics: Metrics,
    pub(crate) services: Routes,
}

impl Gate {
    /// Answers a gRPC request.
    pub(crate) async fn answer(self, request: Request<Body>) -> Response<Body> {
        let begun = Instant::now();
        let method = request.uri().path().to_owned();
        let Self { access, metrics, services } = self;
        let answer = tokio::time::timeout(DEADLINE, admitted(&access, services, request)).await;
        let response = match answer.unwrap_or(Err(Error::Deadline)) {
            Ok(response) => with_own_status(response),
            Err(error) => Status::from(error).into_http(),
        };
        let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
        let counted = if needed(&method).is_some() { &method } else { "unknown" };
        metrics.count(counted, code, begun.elapsed().as_secs_f64());
        response
    }
}

async fn admitted(
    access: &Access,
    services: Routes,
    mut request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let admitted = access.admit(request.headers(), request.uri().path()).await;
    match admitted {
        Ok(Some(caller)) => drop(request.extensions_mut().insert(caller)),
        Ok(None) => {}
        Err(refused) => {
            // Whether it comes to its end or not, it is refused.
            drop(tokio::time::timeout(PATIENCE, read_on(request.into_body())).await);
            return Err(refused);
        }
    }
    match services.oneshot(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// Reads a body to its end, or as far as is worth it.
async fn read_on(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > READ_ON {
            return;
        }
    }
}

/// Says whose fault it is when tonic refuses a message before any service sees it.
///
/// tonic answers an undecodable message with INTERNAL and one that is too large with
/// OUT_OF_RANGE. Both come without details, which no status of ours does (see `error.rs`).
fn with_own_status(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if !status.details().is_empty() {
        return response;
    }
    let text = status.message().to_owned();
    match status.code() {
        Code::Internal => Status::from(Error::Malformed(text)).into_http(),
        Code::OutOfRange => Status::from(Error::TooLarge(text)).into_http(),
        _ => response,
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move { Ok(gate.answer(request).await) })
    }
}
