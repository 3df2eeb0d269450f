//! Reads what a request is about from its head, and refuses heads that two servers could read
//! differently (RFC 9112 section 3.2).

use std::borrow::Cow;

use fastgate::path;
use http::Method;

use crate::{
    error::{Malformed, Refusal},
    head::{Index, Kind, Lines, MAX_LINES},
};

/// The head of a request, whatever protocol it came over.
#[derive(Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: Target<'a>,
    pub(crate) version: Version,
    pub(crate) lines: Lines<'a>,
}

/// The protocol a request came over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Http10,
    Http11,
    Http2,
}

/// What a request is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Target<'a> {
    /// Of a target in absolute form, or `:authority` of HTTP/2.
    pub(crate) authority: Option<&'a [u8]>,
    /// Without the query.
    pub(crate) path: &'a [u8],
    /// Without its question mark.
    pub(crate) query: Option<&'a [u8]>,
    /// Whether it is in none of the forms there are.
    is_malformed: bool,
}

/// What a request asks for.
pub(crate) enum Asked<'a> {
    /// A resource.
    Resource {
        /// In lower case, without port and trailing dot.
        host: Cow<'a, str>,
        /// Without the query.
        path: &'a str,
    },
    /// `OPTIONS *`: the server itself.
    Server,
    /// CONNECT: a tunnel, which no route gives.
    Tunnel,
}

impl<'a> RequestHead<'a> {
    /// What is asked for. The path is checked as if `%2F` could be allowed: whether it is, the
    /// route says.
    ///
    /// # Errors
    /// What is wrong with the head.
    pub(crate) fn asked(&self) -> Result<Asked<'a>, Malformed> {
        if *self.method == Method::CONNECT {
            return Ok(Asked::Tunnel);
        }
        if self.target.is_malformed {
            return Err(Malformed::Target);
        }
        let host = host_of(self.authority()?).ok_or(Malformed::Host)?;
        let path = self.target.path;
        if path == b"*" {
            return match *self.method {
                Method::OPTIONS => Ok(Asked::Server),
                _ => Err(Malformed::Target),
            };
        }
        path::check(path, true)?;
        let path = str::from_utf8(path).map_err(|_| Malformed::Target)?;
        Ok(Asked::Resource { host, path })
    }

    /// The authority both the request target and the Host header name.
    fn authority(&self) -> Result<&'a str, Malformed> {
        let mut hosts = self.lines.values(Kind::Host);
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Malformed::HostCount);
        }
        let authority = match (host, self.target.authority) {
            (Some(host), None) => host,
            (Some(host), Some(target)) if host.eq_ignore_ascii_case(target) => host,
            (Some(_), Some(_)) => return Err(Malformed::HostMismatch),
            // HTTP/2 has `:authority` in place of Host (RFC 9113 section 8.3.1).
            (None, Some(target)) if self.version == Version::Http2 => target,
            (None, _) => return Err(Malformed::HostCount),
        };
        str::from_utf8(authority).map_err(|_| Malformed::Host)
    }
}

impl<'a> Target<'a> {
    /// Reads a request target as HTTP/1.1 writes it. One that can't be read is told when it is
    /// asked for: until then the request is one like any other.
    pub(crate) fn parse(text: &'a [u8]) -> Self {
        if text.first() == Some(&b'/') || text == b"*" {
            return Self::default().with_path(text);
        }
        let absolute = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
            let (start, behind) = text.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(behind)
        });
        let Some(behind) = absolute else {
            return Self { is_malformed: true, ..Self::default().with_path(text) };
        };
        let end = behind.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(behind.len());
        let (authority, path) = behind.split_at(end);
        let target = Self { authority: Some(authority), ..Self::default() };
        match path.first() {
            Some(b'/') => target.with_path(path),
            None => Self { path: b"/", ..target },
            // A query without a path, which would have to be made up in the middle.
            Some(_) => Self { is_malformed: true, ..target.with_path(path) },
        }
    }

    /// The target of an HTTP/2 request: its `:authority` and its `:path`, which is a path or `*`
    /// (RFC 9113 section 8.3.1).
    pub(crate) fn of_stream(
        authority: Option<&'a [u8]>,
        path: &'a [u8],
        has_http_scheme: bool,
    ) -> Self {
        let is_path = path.first() == Some(&b'/') || path == b"*";
        let is_malformed = !has_http_scheme || !is_path;
        Self { authority, is_malformed, ..Self::default() }.with_path(path)
    }

    fn with_path(self, text: &'a [u8]) -> Self {
        let (path, query) = match text.iter().position(|byte| *byte == b'?') {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
            None => (text, None),
        };
        // A fragment has no place in a request (RFC 9112 section 3.2), and a space would end the
        // target where it is written for an upstream. A path is checked for more than that.
        let is_misplaced = |byte: &u8| *byte == b'#' || *byte <= b' ';
        let is_broken = query.is_some_and(|query| query.iter().any(is_misplaced));
        Self { path, query, is_malformed: self.is_malformed || is_broken, ..self }
    }
}

/// A request line and what stands below it, as they were read.
pub(crate) struct Parsed {
    /// How many bytes the head takes.
    pub(crate) length: usize,
    pub(crate) method: Method,
    /// Where the target stands.
    pub(crate) target: std::ops::Range<usize>,
    pub(crate) version: Version,
    pub(crate) index: Index,
}

/// Parses an HTTP/1.1 head; `None` as long as it has not come to its end.
///
/// # Errors
/// Why it is refused.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Parsed>, Refusal> {
    let mut lines = [const { std::mem::MaybeUninit::uninit() }; MAX_LINES];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(_) => return Err(Malformed::Head.into()),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Malformed::Head.into());
    };
    let start = target.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    Ok(Some(Parsed {
        length,
        method: Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Head)?,
        target: start..start + target.len(),
        version: if version == 0 { Version::Http10 } else { Version::Http11 },
        index: Index::of(bytes, request.headers),
    }))
}

/// The method and the target of a head that can't be read, as far as they can be told: `-` and `/`.
pub(crate) fn first_line(bytes: &[u8]) -> (Method, Target<'_>) {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace);
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let unknown = || Method::from_bytes(b"-").unwrap_or_default();
    let target = words.next().map(Target::parse).filter(|target| !target.is_malformed);
    (method.unwrap_or_else(unknown), target.unwrap_or(Target { path: b"/", ..Target::default() }))
}

/// The host of `host[:port]`, `None` when it is neither a name nor an address.
fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let is_port =
        |text: &str| text.is_empty() || (!text.starts_with('+') && text.parse::<u16>().is_ok());
    let (host, port) = match authority.rfind(':') {
        // The last colon of a bare IPv6 address stands within its brackets.
        Some(at) if !authority.ends_with(']') => (authority.get(..at)?, authority.get(at + 1..)?),
        _ => (authority, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_address = || {
        let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inside.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = || {
        let mut before = b'.';
        let is_sound = host.bytes().all(|b| {
            let is_sound = b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'_')
                || (b == b'.' && before != b'.');
            before = b;
            is_sound
        });
        is_sound && before != b'.'
    };
    if !is_port(port) || host.len() > 253 || !(is_name() || is_address()) {
        return None;
    }
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_every_form_there_is() {
        for (text, authority, path, query, is_sound) in [
            ("/a?b=c", None, "/a", Some("b=c"), true),
            ("/a?", None, "/a", Some(""), true),
            ("/a?b?c", None, "/a", Some("b?c"), true),
            ("/a?b#c", None, "/a", Some("b#c"), false),
            ("/a?b c", None, "/a", Some("b c"), false),
            ("/a?b\tc", None, "/a", Some("b\tc"), false),
            ("*", None, "*", None, true),
            ("http://h:1/a?b", Some("h:1"), "/a", Some("b"), true),
            ("HTTPS://h", Some("h"), "/", None, true),
            ("http://h?b", Some("h"), "", Some("b"), false),
            ("ftp://h/a", None, "ftp://h/a", None, false),
            ("a/b", None, "a/b", None, false),
            ("", None, "", None, false),
        ] {
            let target = Target::parse(text.as_bytes());
            assert_eq!(target.authority, authority.map(str::as_bytes), "{text}");
            assert_eq!(target.path, path.as_bytes(), "{text}");
            assert_eq!(target.query, query.map(str::as_bytes), "{text}");
            assert_eq!(!target.is_malformed, is_sound, "{text}");
        }
    }

    #[test]
    fn first_lines_are_read_as_far_as_they_make_sense() {
        let long = format!("GET /{} HTTP/1.1", "a".repeat(1000));
        for (bytes, method, path) in [
            ("GET /a?b=c HTTP/1.1\r\nx: #\r\n\r\n", "GET", "/a"),
            (&*long, "GET", &long[4..1005]),
            ("PUR", "PUR", "/"),
            ("GET nothing", "GET", "/"),
            ("\u{16}\u{3}\u{1}", "-", "/"),
            ("", "-", "/"),
        ] {
            let (read, target) = first_line(bytes.as_bytes());
            assert_eq!((read.as_str(), target.path), (method, path.as_bytes()), "{bytes:?}");
        }
    }
}
