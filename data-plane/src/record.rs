//! One entity as it was sent, in one piece of memory: there may be a million of them.

use std::{borrow::Cow, fmt, hash::BuildHasher as _};

use foldhash::fast::FixedState;
use triomphe::ThinArc;

/// An entity: its kind, its id, and its value byte for byte. A clone counts up and is one pointer.
#[derive(Clone)]
pub(crate) struct Record(ThinArc<Head, u8>);

/// Where things are in the bytes: the value from the start on, and the id, which mostly stands in
/// the value, so that it is not kept twice. A message holds less than 4 GiB.
struct Head {
    /// As on the wire: of a newer control plane it may be one this node does not know.
    kind: i32,
    value_len: u32,
    id_at: u32,
    id_len: u32,
}

impl Record {
    /// A copy of an entity, free of the message it came in.
    pub(crate) fn new(kind: i32, id: &str, value: &[u8]) -> Self {
        let mut bytes = Cow::from(value);
        let id_at = find(value, id.as_bytes()).unwrap_or_else(|| {
            bytes.to_mut().extend(id.as_bytes());
            value.len()
        });
        let head = Head {
            kind,
            value_len: value.len() as u32,
            id_at: id_at as u32,
            id_len: id.len() as u32,
        };
        Self(ThinArc::from_header_and_slice(head, &bytes))
    }

    /// The kind, as on the wire.
    pub(crate) fn kind(&self) -> i32 {
        self.head().kind
    }

    /// The id.
    pub(crate) fn id(&self) -> &str {
        let Head { id_at, id_len, .. } = *self.head();
        std::str::from_utf8(self.bytes(id_at, id_len)).unwrap_or_default()
    }

    /// The value as it was sent.
    pub(crate) fn value(&self) -> &[u8] {
        self.bytes(0, self.head().value_len)
    }

    /// Whether it is the entity of this name.
    pub(crate) fn is(&self, kind: i32, id: &str) -> bool {
        let Head { id_at, id_len, .. } = *self.head();
        self.head().kind == kind && self.bytes(id_at, id_len) == id.as_bytes()
    }

    /// Spreads names over a table. Who chooses the ids runs the gateway, so no secret is needed.
    pub(crate) fn hash_of(kind: i32, id: &str) -> u64 {
        FixedState::default().hash_one((kind, id))
    }

    /// Where in the value something stands.
    pub(crate) fn find(&self, part: &[u8]) -> Option<u32> {
        find(self.value(), part).map(|at| at as u32)
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// What stands at a place that was found.
    pub(crate) fn bytes(&self, at: u32, len: u32) -> &[u8] {
        let (at, len) = (at as usize, len as usize);
        self.0.slice.get(at..at + len).unwrap_or_default()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} {})", self.kind(), self.id())
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let Some(first) = part.first() else { return Some(0) };
    // Most places are passed by at the first byte, without a call.
    text.windows(part.len()).position(|window| window.first() == Some(first) && window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        for (id, value) in [
            ("id", &b"__id__"[..]),
            ("id", b"id"),
            ("id", b"i"),
            ("id", b""),
            ("", b"value"),
            ("", b""),
        ] {
            let record = Record::new(7, id, value);
            assert_eq!((record.kind(), record.id(), record.value()), (7, id, value));
            assert!(record.is(7, id) && !record.is(8, id) && !record.is(7, "other"));
        }
    }

    #[test]
    fn an_id_that_stands_in_the_value_is_not_kept_twice() {
        let size = |id, value| Record::new(1, id, value).0.slice.len();
        assert_eq!((size("key-1", b"\x0a\x05key-1.."), size("key-2", b"\x0a\x05key-1..")), (9, 14));
    }
}
