//! A stream: one request and its answer, as the connection and the request both see it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use super::frame::{Code, MAX_31};
use crate::incoming::Incoming;

/// One of the streams of a connection.
pub(super) struct Stream {
    pub(super) id: u32,
    /// Bytes of its head.
    pub(super) head_size: usize,
    /// What the client sends behind the head.
    pub(super) incoming: Rc<Incoming>,
    /// Bytes of the body still to come, where the head says how many there are.
    announced: Cell<Option<u64>>,
    /// Bytes the client may still send.
    receivable: Cell<i64>,
    /// Bytes received that the connection may not be sent again yet.
    owed: Cell<usize>,
    /// Bytes taken of those that the stream may not be sent again yet.
    unrenewed: Cell<usize>,
    /// Bytes of the answer that the client still takes. Below 0 when it has changed its mind.
    sendable: Cell<i64>,
    /// Whether it waits for what all streams share: room to write to, and the connection's window.
    waits_for_room: Cell<bool>,
    /// Whether the head of the answer was written.
    is_begun: Cell<bool>,
    answered: Cell<Answered>,
    waker: RefCell<Option<Waker>>,
}

/// How far an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    No,
    /// All of it was written.
    Whole,
    /// It never will be, for this reason, and the client is to be told so.
    Broken(Code),
    /// It never will be, and the client knows: it, or the connection, has ended the stream.
    Reset,
}

/// The client has sent more than it may.
#[derive(Debug)]
pub(super) struct Overflow;

impl Stream {
    pub(super) fn new(
        id: u32,
        head_size: usize,
        incoming: Rc<Incoming>,
        announced: Option<u64>,
        (receivable, sendable): (u32, i64),
    ) -> Self {
        Self {
            id,
            head_size,
            incoming,
            announced: Cell::new(announced),
            receivable: Cell::new(receivable.into()),
            owed: Cell::new(0),
            unrenewed: Cell::new(0),
            sendable: Cell::new(sendable),
            waits_for_room: Cell::new(false),
            is_begun: Cell::new(false),
            answered: Cell::new(Answered::No),
            waker: RefCell::default(),
        }
    }

    /// Notes which task the request runs on.
    pub(super) fn runs_on(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Sees to it that the request looks at what has changed.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// How far the answer is.
    pub(super) fn answered(&self) -> Answered {
        self.answered.get()
    }

    /// Notes that the answer has begun.
    pub(super) fn begins(&self) {
        self.is_begun.set(true);
    }

    /// Whether it has.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun.get()
    }

    /// Notes what became of the answer.
    pub(super) fn ends(&self, answered: Answered) {
        self.answered.set(answered);
    }

    /// Ends it as it is.
    pub(super) fn reset(&self) {
        if self.answered.get() == Answered::No {
            self.answered.set(Answered::Reset);
        }
        if !self.incoming.has_ended() {
            self.incoming.break_off();
        }
        self.wake();
    }

    /// Notes that a frame of so many bytes came.
    pub(super) fn received(&self, length: usize) -> Result<(), Overflow> {
        self.receivable.set(self.receivable.get() - length as i64);
        self.owed.set(self.owed.get() + length);
        if self.receivable.get() < 0 { Err(Overflow) } else { Ok(()) }
    }

    /// Puts in what of it is the body's; false: it is more than the head said.
    pub(super) fn put(&self, data: &[u8]) -> bool {
        let left = self.announced.get();
        let after = left.map(|left| left.checked_sub(data.len() as u64));
        if after == Some(None) {
            return false;
        }
        self.announced.set(after.flatten());
        self.incoming.put(data);
        self.wake();
        true
    }

    /// Notes that the client has sent all; false: it is less than the head said.
    pub(super) fn received_all(&self) -> bool {
        if self.announced.get().is_some_and(|left| left > 0) {
            return false;
        }
        self.incoming.end();
        self.wake();
        true
    }

    /// Bytes of the body still to come, where the head says how many there are.
    pub(super) fn announced(&self) -> Option<u64> {
        self.announced.get()
    }

    /// Whether the client has sent as much as the head said, and not yet that this was all.
    pub(super) fn has_come(&self) -> bool {
        self.announced.get() == Some(0) && !self.incoming.has_ended()
    }

    /// How much was taken of what was received, to be renewed for the connection.
    pub(super) fn renew(&self, taken: usize) -> usize {
        let taken = taken.min(self.owed.get());
        self.owed.set(self.owed.get() - taken);
        self.unrenewed.set(self.unrenewed.get() + taken);
        taken
    }

    /// How much the client may be allowed to send again on the stream, once that is worth telling.
    pub(super) fn renewed(&self, worth: usize) -> Option<u32> {
        let amount = self.unrenewed.get();
        if amount < worth || self.incoming.has_ended() {
            return None;
        }
        self.unrenewed.set(0);
        self.receivable.set(self.receivable.get() + amount as i64);
        u32::try_from(amount).ok()
    }

    /// What is renewed for the connection when the stream ends.
    pub(super) fn owed(&self) -> usize {
        self.owed.take()
    }

    /// How much of the answer the client still takes.
    pub(super) fn sendable(&self) -> usize {
        usize::try_from(self.sendable.get()).unwrap_or(0)
    }

    /// Notes that so much was sent.
    pub(super) fn sent(&self, length: usize) {
        self.sendable.set(self.sendable.get() - length as i64);
    }

    /// The client takes so much more, or less.
    pub(super) fn widen(&self, by: i64) -> Result<(), Overflow> {
        let window = self.sendable.get() + by;
        self.sendable.set(window);
        if window > i64::from(MAX_31) {
            return Err(Overflow);
        }
        if window > 0 {
            self.wake();
        }
        Ok(())
    }

    /// Notes that it waits for room.
    pub(super) fn waits_for_room(&self) {
        self.waits_for_room.set(true);
    }

    /// Lets it go on, if it waits for room.
    pub(super) fn has_room(&self) {
        if self.waits_for_room.take() {
            self.wake();
        }
    }
}
