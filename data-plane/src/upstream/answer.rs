//! An upstream's answer on its way to the client, while the rest of the request may still be on its
//! way to the upstream.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;

use super::{connection::Connection, forward::Upload, pool::Pools};
use crate::{
    body::{BodyFault, Source},
    framing::Framing,
    head::Lines,
    recorded::Recorded,
    request_body::RequestBody,
    target::ReadyTarget,
    timers::Timer,
};

/// An answer whose head was read.
pub(crate) struct UpstreamAnswer {
    connection: Box<Connection>,
    upload: Upload,
    /// How long to wait for the next piece of the body.
    timeout: Duration,
    timer: Timer,
    /// Where the connection goes when it was read to its end.
    home: (Arc<ReadyTarget>, Rc<Pools>),
}

impl UpstreamAnswer {
    pub(super) fn new(
        connection: Box<Connection>,
        upload: Upload,
        timer: Timer,
        timeout: Duration,
        home: (Arc<ReadyTarget>, Rc<Pools>),
    ) -> Self {
        Self { connection, upload, timeout, timer, home }
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.connection.status()
    }

    /// How its body is delimited.
    pub(crate) fn framing(&self) -> Framing {
        self.connection.framing()
    }

    /// What stands behind the status. Gone when its body is read.
    pub(crate) fn reason(&self) -> &[u8] {
        self.connection.reason()
    }

    /// Its header lines. Gone when its body is read.
    pub(crate) fn lines(&self) -> Lines<'_> {
        self.connection.lines()
    }

    /// Whether all of it was taken, and all of the request sent.
    pub(crate) fn has_ended(&self) -> bool {
        self.connection.has_ended() && self.upload.is_done()
    }

    /// Its body. Asking for it also moves on the request's.
    pub(crate) fn body<'a>(
        &'a mut self,
        request: &'a mut RequestBody,
        streamed: &'a mut Streamed,
    ) -> Download<'a> {
        Download { answer: self, request, streamed }
    }

    /// Ends an answer that was read. Its connection is used again where it can be; one that is
    /// dropped without this is closed.
    pub(crate) fn finish(self) {
        let (target, pools) = self.home;
        if self.upload.is_done() {
            pools.put(&target.authority, self.connection);
        }
    }
}

/// What was seen of the body of an answer on its way, for the audit log.
#[derive(Default)]
pub(crate) struct Streamed {
    /// Pieces in which it came that were handed on whole: its chunks, or what was read at a time.
    pub(crate) chunks: u32,
    /// What is recorded of the request, if its route asks for anything.
    pub(crate) recorded: Option<Box<Recorded>>,
}

/// The body of an answer, and behind it what the client still sends.
pub(crate) struct Download<'a> {
    answer: &'a mut UpstreamAnswer,
    request: &'a mut RequestBody,
    streamed: &'a mut Streamed,
}

impl Source for Download<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyFault>> {
        let UpstreamAnswer { connection, upload, timer, timeout, .. } = &mut *self.answer;
        match upload.poll(cx, connection, self.request) {
            Err(BodyFault::Broken) => return Poll::Ready(Err(BodyFault::ClientGone)),
            // A request that comes to no end is the client's loss; what it asked for goes on.
            Err(_) => upload.give_up(),
            Ok(()) => {}
        }
        if let Poll::Ready(found) = connection.poll_data(cx) {
            timer.clear();
            return Poll::Ready(found);
        }
        if self.request.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(BodyFault::ClientGone));
        }
        ready!(timer.poll_after(cx, *timeout));
        Poll::Ready(Err(BodyFault::Stalled))
    }

    fn data(&self) -> &[u8] {
        self.answer.connection.data()
    }

    fn take(&mut self, length: usize) {
        let data = self.answer.connection.data();
        self.streamed.chunks = self.streamed.chunks.saturating_add((length >= data.len()).into());
        if let Some(recorded) = &mut self.streamed.recorded
            && let Some(tap) = &mut recorded.response_body
        {
            tap.see(data.get(..length).unwrap_or(data));
        }
        self.answer.connection.take(length);
    }
}
