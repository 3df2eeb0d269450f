//! The first bytes of a body, copied as it passes by.

use super::room::{Held, Room};

/// What is recorded of a content type.
const CONTENT_TYPE: usize = 128;

/// Sees a body pass by, and keeps its beginning.
#[derive(Debug)]
pub(crate) struct Tap {
    content_type: Box<[u8]>,
    limit: usize,
    /// Why nothing is kept.
    omitted: Option<Omitted>,
    bytes: Vec<u8>,
    /// Whether there was more than is kept.
    is_cut: bool,
    /// Whether the end of the body was seen.
    has_ended: bool,
    /// The room of `bytes`; `None`: it has run out.
    held: Option<Held>,
}

/// Why nothing of a body is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Omitted {
    /// It is not of a type that is asked for.
    ContentType,
    /// It is compressed.
    ContentEncoding,
    /// Only a part of it is there, and nobody knows what it is a part of.
    Truncated,
    /// It is no JSON, in which alone it is known where secrets stand.
    NotJson,
    /// Too much of others is kept.
    NoRoom,
}

/// What came of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Body<'a> {
    /// The beginning of what its head says it is.
    pub(crate) content_type: &'a [u8],
    /// The beginning of it, or why there is none.
    pub(crate) bytes: Result<&'a [u8], Omitted>,
    /// Whether there is more, or should have been.
    pub(crate) is_cut: bool,
}

impl Tap {
    pub(super) fn new(
        content_type: &[u8],
        limit: usize,
        omitted: Option<Omitted>,
        room: &Room,
    ) -> Self {
        let content_type = content_type.get(..CONTENT_TYPE).unwrap_or(content_type).into();
        let held = room.take(0);
        let (bytes, is_cut, has_ended) = (Vec::new(), false, false);
        Self { content_type, limit, omitted, bytes, is_cut, has_ended, held }
    }

    /// Of a body that is asked for.
    #[cfg(test)]
    pub(crate) fn keeping(limit: usize, room: &Room) -> Self {
        Self::new(b"application/json", limit, None, room)
    }

    /// Sees the next piece of it.
    pub(crate) fn see(&mut self, data: &[u8]) {
        if self.omitted.is_some() {
            return;
        }
        let room = self.limit - self.bytes.len();
        let data = match data.get(..room) {
            Some(part) => {
                self.is_cut |= part.len() < data.len();
                part
            }
            None => data,
        };
        if self.held.as_mut().is_some_and(|held| held.grow(data.len())) {
            self.bytes.extend_from_slice(data);
        } else {
            (self.omitted, self.bytes, self.held) = (Some(Omitted::NoRoom), Vec::new(), None);
        }
    }

    /// Sees its end.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// What came of it; `None`: nothing.
    pub(crate) fn body(&self) -> Option<Body<'_>> {
        if self.omitted.is_none() && self.bytes.is_empty() {
            return None;
        }
        Some(Body {
            content_type: &self.content_type,
            bytes: self.omitted.map_or(Ok(&self.bytes), Err),
            is_cut: match self.omitted {
                None => self.is_cut || !self.has_ended,
                Some(why) => why == Omitted::Truncated,
            },
        })
    }
}

impl Omitted {
    /// As it is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::ContentEncoding => "content_encoding",
            Self::Truncated => "truncated",
            Self::NotJson => "not_json",
            Self::NoRoom => "no_room",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_body_is_kept_and_what_is_missing_told() {
        let room = Room::default();
        for (pieces, ends, kept, is_cut) in [
            (&["ab", "cd"][..], true, "abcd", false),
            (&["ab", "cd", ""], false, "abcd", true),
            (&["ab", "cde"], true, "abcd", true),
            (&["abcd", "e"], true, "abcd", true),
        ] {
            let mut tap = Tap::new(b"a/b", 4, None, &room);
            pieces.iter().for_each(|piece| tap.see(piece.as_bytes()));
            if ends {
                tap.end();
            }
            let body = tap.body().expect("a body");
            assert_eq!((body.bytes, body.is_cut), (Ok(kept.as_bytes()), is_cut), "{pieces:?}");
            assert_eq!(room.held(), kept.len());
        }
        assert_eq!(room.held(), 0);
        assert_eq!(Tap::new(b"", 4, None, &room).body(), None);
    }

    #[test]
    fn without_room_nothing_of_a_body_is_kept() {
        let room = Room::default();
        let mut others = room.take(0).expect("room");
        while others.grow(1 << 16) {}
        let mut tap = Tap::new(b"a/b", 1 << 16, None, &room);
        tap.see(b"x");
        drop(others);
        tap.see(b"y");
        assert_eq!(tap.body().map(|body| body.bytes), Some(Err(Omitted::NoRoom)));
        assert_eq!(room.held(), 0);
    }
}
