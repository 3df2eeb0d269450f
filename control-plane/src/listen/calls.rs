//! What is under way on one connection, and what its client still waits for.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    identity::Peer,
    streams::{Endless, HangUp},
};

/// How long a connection that owes nothing has to take its leave: streams say why they end, and
/// HTTP/2 exchanges a PING. More than a round trip to a far node.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long a connection is kept without a call.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// From its start to the first one.
    pub(super) to_begin: Duration,
    /// Between two.
    pub(super) between: Duration,
}

/// The calls of one connection.
#[derive(Clone)]
pub(super) struct Calls(Arc<Mutex<State>>);

struct State {
    patience: Patience,
    /// Under way, streams included.
    open: usize,
    /// Those that have an answer with an end.
    owed: usize,
    /// Whether there ever was such an answer: what waits to be written may be its rest.
    has_answered: bool,
    /// The client takes nothing more for the moment.
    is_blocked: bool,
    /// When the connection is given up unless there is a call.
    quiet_until: Instant,
}

impl Calls {
    /// No calls on a connection that was accepted just now.
    pub(super) fn new(patience: Patience) -> Self {
        Self(Arc::new(Mutex::new(State {
            patience,
            open: 0,
            owed: 0,
            has_answered: false,
            is_blocked: false,
            quiet_until: Instant::now() + patience.to_begin,
        })))
    }

    /// Says whether the client takes what is written.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.state().is_blocked = is_blocked;
    }

    /// Returns when the connection has been without a call for too long.
    pub(super) async fn abandoned(&self) {
        loop {
            let until = {
                let state = self.state();
                let now = Instant::now();
                if state.open > 0 { now + state.patience.between } else { state.quiet_until }
            };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Returns when the connection has owed no answer for as long as it takes to say goodbye.
    pub(super) async fn answered(&self) {
        loop {
            let owes = self.owe();
            sleep(FAREWELL).await;
            if !owes && !self.owe() {
                return;
            }
        }
    }

    /// Whether a client waits for an answer, or for the rest of one.
    fn owe(&self) -> bool {
        let state = self.state();
        state.owed > 0 || (state.has_answered && state.is_blocked)
    }

    fn begin(&self) -> Call {
        let mut state = self.state();
        state.open += 1;
        state.owed += 1;
        drop(state);
        Call { calls: self.clone(), is_owed: true }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way: from its head to the end of its answer.
struct Call {
    calls: Calls,
    is_owed: bool,
}

impl Call {
    fn is_endless(&mut self) {
        self.is_owed = false;
        self.calls.state().owed -= 1;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        state.open -= 1;
        state.quiet_until = Instant::now() + state.patience.between;
        if self.is_owed {
            state.owed -= 1;
            state.has_answered = true;
        }
    }
}

/// A service that counts its calls.
#[derive(Clone)]
pub(super) struct Counted<S> {
    pub(super) service: S,
    pub(super) calls: Calls,
    /// What a call may close the connection with.
    pub(super) hang_up: HangUp,
    /// Who makes them.
    pub(super) peer: Peer,
}

impl<S> Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.hang_up.clone());
        request.extensions_mut().insert(self.peer.clone());
        let mut call = self.calls.begin();
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if answer.extensions().get::<Endless>().is_some() {
                call.is_endless();
            }
            let call = Arc::new(call);
            Ok(answer.map(|body| Body::new(Answer { body, call })))
        })
    }
}

/// A body that holds its call open for as long as anything of it has yet to be written.
struct Answer {
    body: Body,
    call: Arc<Call>,
}

/// Bytes of an answer: HTTP/2 lets go of them when they are written, which flow control may put off
/// till long after the body has ended.
struct Chunk {
    bytes: Bytes,
    _call: Arc<Call>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let chunk = |bytes| Bytes::from_owner(Chunk { bytes, _call: Arc::clone(&self.call) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
