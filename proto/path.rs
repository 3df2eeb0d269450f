//! What a request path may look like: the same bytes are matched, authorised and forwarded, so a
//! path that two servers could read differently is refused instead of repaired.

use thiserror::Error;

/// Why a path is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PathFault {
    /// It does not start with `/`.
    #[error("the path must start with '/'")]
    NotAbsolute,
    /// `.` or `..`, plain or percent-encoded once or twice, with or without `;` parameters.
    #[error("the path must not hold dot segments")]
    DotSegment,
    /// `%2F`, or the same encoded twice.
    #[error("the path must not hold an encoded slash")]
    EncodedSlash,
    /// `\`, plain or percent-encoded once or twice.
    #[error("the path must not hold a backslash")]
    Backslash,
    /// A NUL byte, plain or percent-encoded once or twice.
    #[error("the path must not hold a NUL")]
    Nul,
    /// `#`: a fragment never belongs to a request (RFC 9112 §3.2.1).
    #[error("the path must not hold a fragment")]
    Fragment,
    /// `%` without two hex digits after it (RFC 3986 §2.1).
    #[error("the path holds a '%' that is not followed by two hex digits")]
    BadEscape,
    /// A space, a control character or a byte above 0x7E (RFC 3986 §3.3).
    #[error("the path holds a character that must be percent-encoded")]
    BadCharacter,
}

/// Checks a path without its query. `allow_encoded_slash` lets `%2F` pass, for routes that ask for it.
///
/// `//` and letter case are left as they are: they mean something to some upstreams.
///
/// # Errors
/// The first fault found.
pub fn check(path: &[u8], allow_encoded_slash: bool) -> Result<(), PathFault> {
    if path.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    // Nearly every path is plain: one pass over it decides that nothing below is needed.
    if path.iter().all(|byte| is_plain(*byte)) {
        return Ok(());
    }
    for segment in path.split(|byte| *byte == b'/') {
        check_segment(segment, allow_encoded_slash)?;
    }
    Ok(())
}

#[allow(clippy::indexing_slicing, reason = "a byte is always within 256")]
fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// Bytes that no rule below can object to: unreserved and sub-delims but `.`, `;` and `%`.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let bytes = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,=:@/";
    let mut at = 0;
    while at < bytes.len() {
        plain[bytes[at] as usize] = true;
        at += 1;
    }
    plain
};

fn check_segment(segment: &[u8], allow_encoded_slash: bool) -> Result<(), PathFault> {
    for byte in segment {
        match byte {
            b'\\' => return Err(PathFault::Backslash),
            b'#' => return Err(PathFault::Fragment),
            0 => return Err(PathFault::Nul),
            0x01..=0x20 | 0x7f..=0xff => return Err(PathFault::BadCharacter),
            _ => {}
        }
    }
    let once = Decoded::strict(segment)?;
    // What stands behind `%25` is what a second decoder, in an upstream, would see.
    let twice = Decoded::lenient(&once.bytes);
    for decoded in [&once, &twice] {
        if decoded.bytes.contains(&b'\\') {
            return Err(PathFault::Backslash);
        }
        if decoded.bytes.contains(&0) {
            return Err(PathFault::Nul);
        }
        if decoded.made_slash && !allow_encoded_slash {
            return Err(PathFault::EncodedSlash);
        }
        // An encoded slash that is allowed still splits segments for whoever decodes it.
        if decoded.bytes.split(|byte| *byte == b'/').any(is_dot_segment) {
            return Err(PathFault::DotSegment);
        }
    }
    Ok(())
}

/// `.` or `..`, also before a `;` parameter: some servers cut parameters off before they resolve dots.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name == b"." || name == b".."
}

struct Decoded {
    bytes: Vec<u8>,
    made_slash: bool,
}

impl Decoded {
    fn strict(bytes: &[u8]) -> Result<Self, PathFault> {
        Self::decode(bytes, true).ok_or(PathFault::BadEscape)
    }

    fn lenient(bytes: &[u8]) -> Self {
        Self::decode(bytes, false).unwrap_or(Self { bytes: bytes.to_vec(), made_slash: false })
    }

    /// `None` when `strict` and a `%` has no two hex digits after it; else such a `%` stands for itself.
    fn decode(mut rest: &[u8], strict: bool) -> Option<Self> {
        let mut decoded = Self { bytes: Vec::with_capacity(rest.len()), made_slash: false };
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            let escaped = match (first, tail) {
                (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
                _ => None,
            };
            match escaped {
                Some((high, low)) => {
                    let byte = high << 4 | low;
                    decoded.made_slash |= byte == b'/';
                    decoded.bytes.push(byte);
                    rest = tail.get(2..)?;
                }
                None if *first == b'%' && strict => return None,
                None => decoded.bytes.push(*first),
            }
        }
        Some(decoded)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass_as_they_are() {
        for path in [
            "/",
            "//",
            "/a/b",
            "/A//b/",
            "/a.b/..c/...",
            "/caf%C3%A9",
            "/a;v=1/b",
            "/50%25",
            "/a:b@c",
            "/%7Euser",
            "/.well-known/x",
            "/a%20b",
            "/x%253Dy",
        ] {
            assert_eq!(check(path.as_bytes(), false), Ok(()), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (path, fault) in [
            ("", PathFault::NotAbsolute),
            ("a", PathFault::NotAbsolute),
            ("/.", PathFault::DotSegment),
            ("/a/../b", PathFault::DotSegment),
            ("/a/..", PathFault::DotSegment),
            ("/a/%2e%2E/b", PathFault::DotSegment),
            ("/a/.%2e/b", PathFault::DotSegment),
            ("/a/%252e%252e/b", PathFault::DotSegment),
            ("/a/%25%32e./b", PathFault::DotSegment),
            ("/a/..;x=1/b", PathFault::DotSegment),
            ("/a/..%3bx/b", PathFault::DotSegment),
            ("/a/..%253b/b", PathFault::DotSegment),
            ("/a%2fb", PathFault::EncodedSlash),
            ("/a%252Fb", PathFault::EncodedSlash),
            ("/a\\b", PathFault::Backslash),
            ("/a%5Cb", PathFault::Backslash),
            ("/a%255cb", PathFault::Backslash),
            ("/a%00", PathFault::Nul),
            ("/a%2500", PathFault::Nul),
            ("/a\0", PathFault::Nul),
            ("/a#b", PathFault::Fragment),
            ("/a%", PathFault::BadEscape),
            ("/a%4", PathFault::BadEscape),
            ("/a%zz", PathFault::BadEscape),
            ("/a b", PathFault::BadCharacter),
            ("/\u{e9}", PathFault::BadCharacter),
        ] {
            assert_eq!(check(path.as_bytes(), false), Err(fault), "{path:?}");
        }
    }

    #[test]
    fn an_allowed_encoded_slash_hides_no_dot_segment() {
        assert_eq!(check(b"/a%2Fb", true), Ok(()));
        assert_eq!(check(b"/a%2F..%2Fb", true), Err(PathFault::DotSegment));
        assert_eq!(check(b"/a%252f%2e%2e", true), Err(PathFault::DotSegment));
    }

    /// What a lax server might make of a path: decoded as often as it can be, `\\` taken for `/`,
    /// parameters cut off, dots resolved.
    fn lax_segments(path: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = path.to_vec();
        for _ in 0..2 {
            bytes = Decoded::lenient(&bytes).bytes;
        }
        let mut segments = Vec::new();
        for segment in bytes.split(|b| matches!(b, b'/' | b'\\')) {
            match segment.split(|b| *b == b';').next().unwrap_or_default() {
                b"." => {}
                b".." => drop(segments.pop()),
                name => segments.push(name.to_vec()),
            }
        }
        segments
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config {
            cases: 4096,
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn a_path_that_passes_means_the_same_to_a_lax_server(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "/", "a", ".", "..", "%", "2e", "2E", "%2e", "%252e", "%2f", "%25", "2f", "5c", "%5c",
                    "\\", ";", ";x", "%3b", "%00", "~", "%41",
                ]),
                0..12,
            )
        ) {
            let path = format!("/{}", parts.concat());
            if check(path.as_bytes(), false).is_ok() {
                let written = path.matches('/').count();
                let seen = lax_segments(path.as_bytes()).len();
                proptest::prop_assert_eq!(seen, written + 1, "{}", path);
            }
        }
    }
}
