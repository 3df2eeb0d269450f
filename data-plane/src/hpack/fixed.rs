//! The lines that every table begins with (RFC 7541 appendix A).

use super::{name::Name, table::Entry};
use crate::head::Kind;

/// What the decoder notes of a line.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub(super) name: Name,
    pub(super) has_sound_name: bool,
    /// Its value is, too.
    pub(super) is_sound: bool,
}

const LINES: [(&str, &str, Name); 61] = [
    (":authority", "", Name::Authority),
    (":method", "GET", Name::Method),
    (":method", "POST", Name::Method),
    (":path", "/", Name::Path),
    (":path", "/index.html", Name::Path),
    (":scheme", "http", Name::Scheme),
    (":scheme", "https", Name::Scheme),
    (":status", "200", Name::Status),
    (":status", "204", Name::Status),
    (":status", "206", Name::Status),
    (":status", "304", Name::Status),
    (":status", "400", Name::Status),
    (":status", "404", Name::Status),
    (":status", "500", Name::Status),
    ("accept-charset", "", Name::Regular(Kind::Other)),
    ("accept-encoding", "gzip, deflate", Name::Regular(Kind::Other)),
    ("accept-language", "", Name::Regular(Kind::Other)),
    ("accept-ranges", "", Name::Regular(Kind::Other)),
    ("accept", "", Name::Regular(Kind::Other)),
    ("access-control-allow-origin", "", Name::Regular(Kind::Other)),
    ("age", "", Name::Regular(Kind::Other)),
    ("allow", "", Name::Regular(Kind::Other)),
    ("authorization", "", Name::Regular(Kind::Authorization)),
    ("cache-control", "", Name::Regular(Kind::Other)),
    ("content-disposition", "", Name::Regular(Kind::Other)),
    ("content-encoding", "", Name::Regular(Kind::Other)),
    ("content-language", "", Name::Regular(Kind::Other)),
    ("content-length", "", Name::Regular(Kind::ContentLength)),
    ("content-location", "", Name::Regular(Kind::Other)),
    ("content-range", "", Name::Regular(Kind::Other)),
    ("content-type", "", Name::Regular(Kind::Other)),
    ("cookie", "", Name::Regular(Kind::Cookie)),
    ("date", "", Name::Regular(Kind::Date)),
    ("etag", "", Name::Regular(Kind::Other)),
    ("expect", "", Name::Regular(Kind::Expect)),
    ("expires", "", Name::Regular(Kind::Other)),
    ("from", "", Name::Regular(Kind::Other)),
    ("host", "", Name::Regular(Kind::Host)),
    ("if-match", "", Name::Regular(Kind::Other)),
    ("if-modified-since", "", Name::Regular(Kind::Other)),
    ("if-none-match", "", Name::Regular(Kind::Other)),
    ("if-range", "", Name::Regular(Kind::Other)),
    ("if-unmodified-since", "", Name::Regular(Kind::Other)),
    ("last-modified", "", Name::Regular(Kind::Other)),
    ("link", "", Name::Regular(Kind::Other)),
    ("location", "", Name::Regular(Kind::Other)),
    ("max-forwards", "", Name::Regular(Kind::Other)),
    ("proxy-authenticate", "", Name::Regular(Kind::HopByHop)),
    ("proxy-authorization", "", Name::Regular(Kind::HopByHop)),
    ("range", "", Name::Regular(Kind::Other)),
    ("referer", "", Name::Regular(Kind::Other)),
    ("refresh", "", Name::Regular(Kind::Other)),
    ("retry-after", "", Name::Regular(Kind::Other)),
    ("server", "", Name::Regular(Kind::Other)),
    ("set-cookie", "", Name::Regular(Kind::Other)),
    ("strict-transport-security", "", Name::Regular(Kind::Other)),
    ("transfer-encoding", "", Name::Regular(Kind::TransferEncoding)),
    ("user-agent", "", Name::Regular(Kind::UserAgent)),
    ("vary", "", Name::Regular(Kind::Other)),
    ("via", "", Name::Regular(Kind::Other)),
    ("www-authenticate", "", Name::Regular(Kind::Other)),
];

/// How many there are: the newest line of a connection has the next number.
pub(super) const COUNT: usize = LINES.len();

/// Where they stand in [`BYTES`].
pub(super) static ENTRIES: [Entry<Note>; COUNT] = LAID_OUT.0;

/// The texts of all of them, one behind the other.
pub(super) static BYTES: [u8; 1024] = LAID_OUT.1;

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const LAID_OUT: ([Entry<Note>; COUNT], [u8; 1024]) = {
    let note = Note { name: Name::Status, has_sound_name: true, is_sound: true };
    let mut entries = [Entry { start: 0, name_length: 0, value_length: 0, note }; COUNT];
    let mut bytes = [0; 1024];
    let (mut nth, mut start) = (0, 0);
    while nth < COUNT {
        let (name, value, what) = LINES[nth];
        entries[nth] = Entry {
            start: start as u16,
            name_length: name.len() as u16,
            value_length: value.len() as u16,
            note: Note { name: what, ..note },
        };
        start = put(&mut bytes, start, name.as_bytes());
        start = put(&mut bytes, start, value.as_bytes());
        nth += 1;
    }
    (entries, bytes)
};

/// Returns where it ends.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn put(bytes: &mut [u8; 1024], start: usize, text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        bytes[start + at] = text[at];
        at += 1;
    }
    start + at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::name::{is_sound_name, is_sound_value};

    #[test]
    fn what_is_noted_of_a_line_is_what_it_says() {
        assert_eq!(COUNT, ENTRIES.len());
        for (entry, (name, value, _)) in ENTRIES.iter().zip(LINES) {
            assert_eq!(entry.text(&BYTES), format!("{name}{value}").as_bytes());
            assert_eq!(usize::from(entry.name_length), name.len());
            assert_eq!(entry.note.name, Name::of(name.as_bytes()), "{name}");
            assert!(is_sound_name(name.as_bytes()) && is_sound_value(value.as_bytes()), "{name}");
        }
    }
}
