//! Calls without an end of their own, and how they end all the same.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// Marks an answer, in its extensions, that goes on until one side leaves: a control plane that
/// stops does not wait for its end.
#[derive(Clone, Copy)]
pub(crate) struct Endless;

/// Closes the connection a call came on, for that alone frees what waits to be sent to a client
/// that takes nothing. The port puts it into the extensions of every request.
#[derive(Clone, Default)]
pub(crate) struct HangUp(pub(crate) CancellationToken);

/// A service of others whose streams know nothing of a stop: they end with `stop`.
#[derive(Clone)]
pub(crate) struct EndsWith<S> {
    pub(crate) stop: CancellationToken,
    pub(crate) service: S,
}

impl<S: NamedService> NamedService for EndsWith<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for EndsWith<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.service.call(request);
        let stop = Box::pin(self.stop.clone().cancelled_owned());
        Box::pin(async move {
            let mut answer = answer.await?.map(|body| Body::new(Ending { body, stop }));
            answer.extensions_mut().insert(Endless);
            Ok(answer)
        })
    }
}

/// A body that ends at the stop, after what was ready by then.
struct Ending {
    body: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if self.stop.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let status = Status::unavailable("the control plane stops");
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
