//! The body of an HTTP/2 stream: its connection puts in what it receives, the request takes it out.
//!
//! Both are on one task. The connection wakes the request when it has put something in, and looks
//! for what was taken out whenever the mark that all its bodies share is set: the client may send as
//! much again then.

use std::{
    cell::{Cell, RefCell},
    mem,
    rc::Rc,
    task::Poll,
};

use crate::{body::BodyFault, buffers::Buffers};

/// A body on its way in, as its connection sees it.
pub(crate) struct Incoming {
    // Borrowed for single calls below.
    buffer: RefCell<Vec<u8>>,
    state: Cell<State>,
    /// Bytes taken since the connection last looked.
    taken: Cell<usize>,
    asking: Cell<Asking>,
    inlet: Rc<Inlet>,
    buffers: Rc<Buffers>,
}

/// What the bodies of a connection share.
#[derive(Default)]
pub(crate) struct Inlet {
    /// Set when there is something for the connection to see.
    mark: Cell<bool>,
    /// Whether the client may send nothing of any: what it sent of others was not taken.
    is_shut: Cell<bool>,
}

impl Inlet {
    /// Whether a body was taken from, or asked for, since this was asked last.
    pub(crate) fn was_changed(&self) -> bool {
        self.mark.take()
    }

    /// Notes whether the client may send nothing.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.set(is_shut);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

/// Whether a client has to be told that its body is wanted (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    No,
    /// It waits for that.
    Awaited,
    /// The body is wanted; nobody has told the client yet.
    Wanted,
}

impl Incoming {
    /// A body that begins; `waits`: the client sends it only when it is asked to.
    pub(crate) fn new(inlet: Rc<Inlet>, buffers: Rc<Buffers>, waits: bool) -> Self {
        Self {
            buffer: RefCell::default(),
            state: Cell::new(State::Open),
            taken: Cell::new(0),
            asking: Cell::new(if waits { Asking::Awaited } else { Asking::No }),
            inlet,
            buffers,
        }
    }

    /// Puts in what was received.
    pub(crate) fn put(&self, data: &[u8]) {
        self.asking.set(Asking::No);
        let mut buffer = self.buffer.borrow_mut();
        if buffer.capacity() == 0 {
            *buffer = self.buffers.take();
        }
        buffer.extend_from_slice(data);
    }

    /// Says that nothing more comes.
    pub(crate) fn end(&self) {
        self.state.set(State::Ended);
    }

    /// Says that the rest will never come.
    pub(crate) fn break_off(&self) {
        self.state.set(State::Broken);
    }

    /// Whether all of it was received.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.get() == State::Ended
    }

    /// How much was taken out since this was asked last.
    pub(crate) fn taken(&self) -> usize {
        self.taken.take()
    }

    /// Whether the client keeps the body until it is asked for it.
    pub(crate) fn is_kept(&self) -> bool {
        self.asking.get() != Asking::No
    }

    /// Whether the client is to be told now that the body is wanted.
    pub(crate) fn is_to_be_asked_for(&self) -> bool {
        let is_wanted = self.asking.get() == Asking::Wanted;
        if is_wanted {
            self.asking.set(Asking::No);
        }
        is_wanted
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.buffers.give_back(self.buffer.get_mut());
    }
}

/// A body on its way in, as the request sees it.
pub(crate) struct StreamBody {
    incoming: Rc<Incoming>,
    /// What was fetched of it.
    data: Vec<u8>,
    /// How much of that was taken.
    at: usize,
}

impl StreamBody {
    pub(crate) fn new(incoming: Rc<Incoming>) -> Self {
        Self { incoming, data: Vec::new(), at: 0 }
    }

    /// Waits for data; false: the body has ended.
    pub(crate) fn poll_data(&mut self) -> Poll<Result<bool, BodyFault>> {
        if !self.data().is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.data.clear();
        self.at = 0;
        mem::swap(&mut self.data, &mut self.incoming.buffer.borrow_mut());
        match self.incoming.state.get() {
            _ if !self.data.is_empty() => Poll::Ready(Ok(true)),
            State::Ended => Poll::Ready(Ok(false)),
            State::Broken => Poll::Ready(Err(BodyFault::Broken)),
            State::Open => {
                if self.incoming.asking.get() == Asking::Awaited {
                    self.incoming.asking.set(Asking::Wanted);
                    self.incoming.inlet.mark.set(true);
                }
                Poll::Pending
            }
        }
    }

    /// What [`StreamBody::poll_data`] has found.
    pub(crate) fn data(&self) -> &[u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// Takes so much of it.
    pub(crate) fn take(&mut self, length: usize) {
        self.at += length;
        self.incoming.taken.set(self.incoming.taken.get() + length);
        self.incoming.inlet.mark.set(true);
    }

    /// Whether the client may send nothing of it, whatever it wants.
    pub(crate) fn is_shut(&self) -> bool {
        self.incoming.inlet.is_shut.get()
    }

    /// Whether all of it was received and taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.incoming.has_ended()
            && self.data().is_empty()
            && self.incoming.buffer.borrow().is_empty()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.incoming.buffers.give_back(&mut self.data);
    }
}
