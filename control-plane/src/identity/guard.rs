//! The one way to every service of the node port: whoever is not known may only join.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};

use super::Peer;

/// The only call that needs no certificate.
const JOIN: &str = "/fastgate.node.v1.NodeIdentity/Join";

/// How long it may take: whoever makes it is not known yet, and may mean to keep its place for ever.
const JOINING: Duration = Duration::from_secs(10);

/// The services of the node port.
#[derive(Clone)]
pub(crate) struct Guard(pub(crate) Routes);

impl Guard {
    fn admit(request: &Request<Incoming>) -> Result<(), Status> {
        if request.uri().path() == JOIN {
            return Ok(());
        }
        match Peer::of(request.extensions()) {
            Peer::Local => Ok(()),
            Peer::Node(proven) if proven.is_revoked() => {
                let node = &proven.certificate().node;
                Err(Status::unauthenticated(format!(
                    "the certificate of {node} was revoked: let the node join with a new token"
                )))
            }
            Peer::Node(_) => Ok(()),
            Peer::Stranger => Err(Status::unauthenticated(
                "no certificate was shown: let the node join with a token first",
            )),
        }
    }
}

impl Service<Request<Incoming>> for Guard {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if let Err(status) = Self::admit(&request) {
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let services = self.0.clone();
        if request.uri().path() != JOIN {
            return Box::pin(services.oneshot(request.map(Body::new)));
        }
        Box::pin(async move {
            let joined = timeout(JOINING, services.oneshot(request.map(Body::new))).await;
            let too_long = || Ok(Status::deadline_exceeded("the call took too long").into_http());
            joined.unwrap_or_else(|_| too_long())
        })
    }
}
