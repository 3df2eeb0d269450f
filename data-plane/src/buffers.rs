//! One worker's memory for what is being read and written, lent for the length of a request.
//!
//! A connection that waits for a request holds none of it, and one that has begun to send a request
//! holds little.

use std::{cell::RefCell, mem};

/// The most a buffer for reading holds: larger heads are refused.
pub(crate) const CAPACITY: usize = 64 * 1024;

/// What a buffer holds at first: nearly every head, and the bodies of most answers of an API.
const SMALL: usize = 8 * 1024;

/// Buffers of each size kept for the next request; further ones go back to the allocator.
const KEPT: usize = 64;

/// The buffers of one worker.
#[derive(Default)]
pub(crate) struct Buffers {
    // Borrowed for single calls below.
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer, which is small at first.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// Sees to it that something can be read behind what is in a buffer, and a lot of it where
    /// there is much to come.
    pub(crate) fn make_room(&self, buffer: &mut Vec<u8>, much: bool) {
        if buffer.capacity() == 0 && !much {
            *buffer = self.take();
        }
        let is_small = buffer.capacity() < CAPACITY;
        if is_small && (much || buffer.len() == buffer.capacity()) {
            let large = self.large.borrow_mut().pop();
            let mut large = large.unwrap_or_else(|| Vec::with_capacity(CAPACITY));
            large.extend_from_slice(buffer);
            self.give_back(buffer);
            *buffer = large;
        }
    }

    /// Takes a buffer back, which leaves an empty one without memory in its place.
    pub(crate) fn give_back(&self, buffer: &mut Vec<u8>) {
        let mut buffer = mem::take(buffer);
        // One that has grown, or was never taken here, is not kept.
        let kept = match buffer.capacity() {
            SMALL => &self.small,
            CAPACITY => &self.large,
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_once_and_are_lent_again() {
        let buffers = Buffers::default();
        let mut buffer = Vec::new();
        buffers.make_room(&mut buffer, false);
        assert_eq!(buffer.capacity(), SMALL);
        buffer.extend([7; SMALL]);
        buffers.make_room(&mut buffer, false);
        assert_eq!((buffer.capacity(), &*buffer), (CAPACITY, &[7; SMALL][..]));
        let place = buffer.as_ptr();
        buffers.give_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        buffers.make_room(&mut buffer, true);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
        for _ in 0..2 * KEPT {
            buffers.give_back(&mut Vec::with_capacity(SMALL));
        }
        assert_eq!(buffers.small.borrow().len(), KEPT);
    }
}
