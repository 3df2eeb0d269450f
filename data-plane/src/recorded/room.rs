//! Memory for what is recorded: of all requests of a worker together, those under way and those
//! whose events wait to be written.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes one worker's requests may hold. The collector lets go of them 50 times a second.
const LIMIT: usize = 4 << 20;

/// The room of one worker. Only its thread takes of it; the collector's gives back.
#[derive(Clone, Default, Debug)]
pub(crate) struct Room(Arc<AtomicUsize>);

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Room,
    bytes: usize,
}

impl Room {
    /// So much of it, if it is there.
    pub(super) fn take(&self, bytes: usize) -> Option<Held> {
        // Nobody else adds to it, so that it can only have become less meanwhile.
        if self.0.load(Relaxed) + bytes > LIMIT {
            return None;
        }
        self.0.fetch_add(bytes, Relaxed);
        Some(Held { room: self.clone(), bytes })
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Held {
    /// Holds so much more; false: it is not there.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let Some(mut more) = self.room.take(bytes) else { return false };
        self.bytes += std::mem::take(&mut more.bytes);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_held_by_others() {
        let room = Room::default();
        let mut half = room.take(LIMIT / 2).expect("room");
        assert!(half.grow(LIMIT / 2) && !half.grow(1) && room.take(1).is_none());
        assert_eq!(room.held(), LIMIT);
        drop(half);
        assert_eq!(room.held(), 0);
        assert!(room.take(LIMIT + 1).is_none());
    }
}
