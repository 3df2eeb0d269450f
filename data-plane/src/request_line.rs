//! How a request began, for what hyper does not tell of it.
//!
//! Hyper cuts a fragment off the target, and of a head it refuses it tells nothing. So the first
//! line is looked at as it comes. Of a request sent before the answer to the one before, which may
//! begin in the middle of a read, nothing is known.

use http::{Method, Uri};

/// What is kept of a line; a longer target is recorded up to here.
const KEPT: usize = 256;

/// The first line of a request, as far as it was seen.
pub(crate) struct RequestLine {
    bytes: [u8; KEPT],
    length: usize,
    has_ended: bool,
    has_fragment: bool,
}

impl Default for RequestLine {
    fn default() -> Self {
        Self { bytes: [0; KEPT], length: 0, has_ended: false, has_fragment: false }
    }
}

impl RequestLine {
    /// Forgets the line before this one.
    pub(crate) fn clear(&mut self) {
        *self = Self { bytes: self.bytes, ..Self::default() };
    }

    /// Takes what comes next of a request, which may be all of it.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.has_ended {
            return;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        self.has_ended = end.is_some();
        let more = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        self.has_fragment |= more.contains(&b'#');
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        room.iter_mut().zip(more).for_each(|(kept, byte)| *kept = *byte);
        self.length = (self.length + more.len()).min(KEPT);
    }

    /// Whether the target holds a fragment, which has no place there (RFC 9112 section 3.2).
    pub(crate) fn has_fragment(&self) -> bool {
        self.has_fragment
    }

    /// The method and the target; `-` and `/` where they can't be told.
    pub(crate) fn read(&self) -> (Method, Uri) {
        let line = self.bytes.get(..self.length).unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace);
        let method = words.next().and_then(|word| Method::from_bytes(word).ok());
        let target = words.next().and_then(|word| Uri::try_from(word).ok());
        let unknown = || Method::from_bytes(b"-").unwrap_or_default();
        (method.unwrap_or_else(unknown), target.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_far_as_they_make_sense() {
        let long = format!("GET /{} HTTP/1.1", "a".repeat(1000));
        let cut = format!("/{}", "a".repeat(KEPT - "GET /".len()));
        for (bytes, method, path, has_fragment) in [
            ("GET /a?b=c HTTP/1.1\r\nx: #\r\n\r\n", "GET", "/a", false),
            ("GET /a#b HTTP/1.1\r\n\r\n", "GET", "/a", true),
            (&*long, "GET", &*cut, false),
            ("PUR", "PUR", "/", false),
            ("\u{16}\u{3}\u{1}", "-", "/", false),
            ("", "-", "/", false),
        ] {
            let mut line = RequestLine::default();
            // However it is cut into reads.
            bytes.as_bytes().chunks(24).for_each(|bytes| line.extend(bytes));
            let (read, target) = line.read();
            assert_eq!((read.as_str(), target.path()), (method, path), "{bytes:?}");
            assert_eq!(line.has_fragment(), has_fragment, "{bytes:?}");
        }
    }
}
