//! Bodies on their way through: counted, bounded in time, never gathered.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use crate::settings::Settings;

/// Why a body broke off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum BodyFault {
    /// No byte came for too long.
    #[error("the body stalled")]
    Stalled,
    /// It is longer than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// The connection it came over broke.
    #[error("the body broke off")]
    Broken,
}

/// How far a request body has come. Written by the body, read by whoever waits for the answer.
pub(crate) struct Progress {
    bytes: Cell<u64>,
    last: Cell<Instant>,
    waits_for_client: Cell<bool>,
    is_unread: Cell<bool>,
    fault: Cell<Option<BodyFault>>,
}

impl Progress {
    /// A body none of which was seen by `now`, if there is one.
    pub(crate) fn starting(now: Instant, has_body: bool) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            last: Cell::new(now),
            waits_for_client: Cell::new(false),
            is_unread: Cell::new(has_body),
            fault: Cell::new(None),
        })
    }

    /// Bytes received so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When something of it was last received; at first, when the request began.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// Whether it is the client that everything waits for.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client.get()
    }

    /// Whether its end was not seen.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.get()
    }

    /// Why it broke off, if it did.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }
}

/// A client's body on its way to an upstream.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    progress: Rc<Progress>,
    max_size: Option<u64>,
    patience: Patience,
}

impl RequestBody {
    /// The body of a request, which breaks off where it gets longer than allowed.
    ///
    /// # Errors
    /// When it says beforehand that it will.
    pub(crate) fn new(
        incoming: Incoming,
        progress: &Rc<Progress>,
        settings: &Settings,
    ) -> Result<Self, BodyFault> {
        let max_size = settings.max_body_size;
        if max_size.is_some_and(|max| incoming.size_hint().lower() > max) {
            return Err(BodyFault::TooLarge);
        }
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        let patience = Patience::new(settings.body_timeout);
        Ok(Self { incoming, progress: progress.clone(), max_size, patience })
    }

    /// An empty body in place of this one, which has to be empty.
    pub(crate) fn empty_twin(&self) -> Self {
        Self {
            incoming: None,
            progress: self.progress.clone(),
            max_size: self.max_size,
            patience: Patience::new(self.patience.timeout),
        }
    }

    /// Whether there is no body at all.
    pub(crate) fn is_absent(&self) -> bool {
        self.incoming.is_none()
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            this.progress.waits_for_client.set(true);
            ready!(this.patience.poll_lost(cx));
            return this.fail(BodyFault::Stalled);
        };
        this.patience.renew();
        this.progress.waits_for_client.set(false);
        this.progress.last.set(Instant::now());
        match frame {
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else {
                    // Trailers end a body, and stay behind: see `forwarding`.
                    this.incoming = None;
                    this.progress.is_unread.set(false);
                    return Poll::Ready(None);
                };
                let is_last = this.incoming.as_ref().is_none_or(Incoming::is_end_stream);
                this.progress.is_unread.set(!is_last);
                let bytes = this.progress.bytes.get().saturating_add(data.len() as u64);
                this.progress.bytes.set(bytes);
                if this.max_size.is_some_and(|max| bytes > max) {
                    return this.fail(BodyFault::TooLarge);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => this.fail(BodyFault::Broken),
            None => {
                this.progress.is_unread.set(false);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// How long to wait for the next piece of something. Costs no timer while nothing is waited for.
pub(crate) struct Patience {
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    /// Patience that ends after `timeout` without a [`Patience::renew`].
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, timer: None, waiting: false }
    }

    /// Says that a piece came.
    pub(crate) fn renew(&mut self) {
        self.waiting = false;
    }

    /// Ready when the wait for the next piece has become too long.
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx)
    }
}
