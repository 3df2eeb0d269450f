//! One worker's memory for what is being read and written, lent for the length of a request.
//!
//! A connection that waits for a request holds none of it.

use std::{cell::RefCell, mem};

/// What one buffer holds: more than any head may have, and enough of a body for few system calls.
/// Memory behind what was ever written is not touched, and so not taken from the system.
pub(crate) const CAPACITY: usize = 64 * 1024;

/// Buffers kept for the next request; further ones go back to the allocator.
const KEPT: usize = 64;

/// The buffers of one worker.
#[derive(Default)]
pub(crate) struct Buffers {
    // Borrowed for single calls below.
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
    }

    /// Takes a buffer back, which leaves an empty one without memory in its place.
    pub(crate) fn give_back(&self, buffer: &mut Vec<u8>) {
        let mut buffer = mem::take(buffer);
        let mut free = self.free.borrow_mut();
        // One that has grown, or was never taken here, is not kept.
        if buffer.capacity() == CAPACITY && free.len() < KEPT {
            buffer.clear();
            free.push(buffer);
        }
    }
}
