//! What a client may still be sending of requests that were answered.
//!
//! It may be told that nobody wants it (RFC 9113 section 8.1), but some clients lose an answer that
//! they read together with that. So one that is about to end anyway is let go on, for a while.

use std::{collections::VecDeque, mem, rc::Rc, task::Context, time::Duration};

use tokio::time::Instant;

use crate::{
    connection::http2::{stream::Stream, streams::MAX_STREAMS},
    request_body::SHORT,
    timers::{Timer, Timers},
};

/// How long a client may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rests of requests that were answered.
pub(super) struct Unwanted {
    /// Streams whose clients are to be told.
    due: Vec<u32>,
    /// Those that are let go on, the oldest first.
    rests: VecDeque<Rest>,
    /// Goes off with the first of them.
    timer: Timer,
}

struct Rest {
    stream: u32,
    /// Bytes that may still come.
    left: u64,
    /// Whether the head said so.
    is_announced: bool,
    until: Instant,
}

impl Unwanted {
    pub(super) fn new(timers: &Rc<Timers>) -> Self {
        Self { due: Vec::new(), rests: VecDeque::new(), timer: Timer::new(timers) }
    }

    /// Takes in a stream that was answered before its end.
    pub(super) fn push(&mut self, stream: &Stream) {
        let announced = stream.announced();
        let left = announced.unwrap_or(SHORT as u64);
        // One that is waiting to be asked for its body does not know that it may end.
        if left > SHORT as u64 || stream.incoming.is_kept() {
            return self.due.push(stream.id);
        }
        let (is_announced, until) = (announced.is_some(), Instant::now() + PATIENCE);
        self.rests.push_back(Rest { stream: stream.id, left, is_announced, until });
    }

    /// Notes that so much more of a stream came, and whether that was the last of it.
    pub(super) fn came(&mut self, stream: u32, bytes: usize, is_last: bool) {
        let Some(place) = self.rests.iter().position(|rest| rest.stream == stream) else { return };
        let Some(rest) = self.rests.get_mut(place) else { return };
        match rest.left.checked_sub(bytes as u64) {
            Some(left) if !is_last && (left > 0 || !rest.is_announced) => rest.left = left,
            Some(_) => drop(self.rests.remove(place)),
            None => {
                self.rests.remove(place);
                self.due.extend((!is_last).then_some(stream));
            }
        }
    }

    /// The streams whose clients are to be told now; the task is woken when there are more.
    pub(super) fn take_due(&mut self, cx: &Context<'_>) -> Vec<u32> {
        while let Some(Rest { stream, until, .. }) = self.rests.front() {
            let are_many = self.rests.len() > MAX_STREAMS;
            if !are_many && self.timer.poll(cx, || *until).is_pending() {
                return mem::take(&mut self.due);
            }
            self.due.push(*stream);
            self.rests.pop_front();
        }
        self.timer.clear();
        mem::take(&mut self.due)
    }
}
