//! How a batch lies in a file: a head that says what follows, then the batch as it is sent.
//!
//! ```text
//! mark 4 | length 4 | boot 16 | from 8 | first_seq 8 | events 4 | CRC of the batch 4 | CRC of the head 4 | batch
//! ```
//!
//! Numbers are big endian. A file has no head of its own: damage there would cost all that is in
//! it. The checksum is CRC-32 (IEEE), as in all files and streams of a node: CRC-32C would find
//! three flipped bits in a mebibyte for certain where this one finds two, and for each further one
//! they miss the same one of four billion; that is not worth a second checksum in the program.

use bytes::{Buf, BufMut};
use uuid::Uuid;

use crate::audit::batch::Sealed;

/// What every frame begins with; the last byte is the version of the format.
pub(super) const MARK: [u8; 4] = *b"FGA\x01";

/// The bytes before the batch.
pub(super) const HEAD: usize = 52;

/// The part of them that the last four are the checksum of.
const CHECKED: usize = HEAD - 4;

/// What is said of a batch before it. A frame covers the events of its boot from `from` on: first
/// those that were dropped, then those that are in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) boot: Uuid,
    pub(super) from: u64,
    pub(super) first_seq: u64,
    pub(super) events: u32,
    /// Bytes of the batch.
    pub(super) len: u32,
    crc: u32,
}

impl Head {
    /// Of this batch. One is a few megabytes at most, of some thousand events.
    pub(super) fn of(batch: &Sealed) -> Self {
        Self {
            boot: batch.boot,
            from: batch.from,
            first_seq: batch.first_seq,
            events: u32::try_from(batch.events).unwrap_or(u32::MAX),
            len: u32::try_from(batch.encoded.len()).unwrap_or(u32::MAX),
            crc: crc32fast::hash(&batch.encoded),
        }
    }

    /// As it is written.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.put_slice(&MARK);
        bytes.put_u32(self.len);
        bytes.put_slice(self.boot.as_bytes());
        bytes.put_u64(self.from);
        bytes.put_u64(self.first_seq);
        bytes.put_u32(self.events);
        bytes.put_u32(self.crc);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes
    }

    /// Read back; `None`: this is no head, or a damaged one.
    pub(super) fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let (mut checked, mut crc) = bytes.split_at_checked(CHECKED)?;
        if !checked.starts_with(&MARK) || crc.get_u32() != crc32fast::hash(checked) {
            return None;
        }
        checked.advance(MARK.len());
        let len = checked.get_u32();
        let boot = Uuid::from_u128(checked.get_u128());
        let (from, first_seq) = (checked.get_u64(), checked.get_u64());
        let (events, crc) = (checked.get_u32(), checked.get_u32());
        first_seq.checked_add(events.into()).filter(|_| from <= first_seq)?;
        Some(Self { boot, from, first_seq, events, len, crc })
    }

    /// Events of the boot up to the last one in it.
    pub(super) fn end(self) -> u64 {
        self.first_seq + u64::from(self.events)
    }

    /// Whether this is the batch it is the head of.
    pub(super) fn is_of(self, batch: &[u8]) -> bool {
        batch.len() as u64 == u64::from(self.len) && crc32fast::hash(batch) == self.crc
    }
}
