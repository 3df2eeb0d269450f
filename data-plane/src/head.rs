//! The head of a message as the request path reads it: its header lines, each with what it is for.
//!
//! Lines stay where they were read. An index says where each name and value stands and what kind
//! of line it is, found out once, so that nothing later compares names or copies values.

use std::ops::Range;

use smallvec::SmallVec;

use crate::buffers::CAPACITY;

/// Lines of a head; one with more is refused.
pub(crate) const MAX_LINES: usize = 100;

/// What a header line is for, as far as the gateway has to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    ApiKey,
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    /// Another one in which only proxies tell of a client.
    ForwardedOther,
    Host,
    /// Of one connection, not of a message, beside `Connection` itself (RFC 9110 section 7.6.1).
    HopByHop,
    /// Of the families `RateLimit` and `X-RateLimit`.
    RateLimit,
    RequestId,
    SourcePath,
    Trailer,
    TransferEncoding,
    /// Written with underscores, so that CGI-like upstreams can't tell it from one of those that
    /// the gateway reads or sets.
    Twin,
    UserAgent,
    /// The gateway has nothing to do with it.
    Other,
}

/// The names that are told apart, shortest first. All that begin with [`FORWARDED`] are besides.
const KNOWN: [(&[u8], Kind); 41] = [
    (b"te", Kind::HopByHop),
    (b"date", Kind::Date),
    (b"host", Kind::Host),
    (b"cookie", Kind::Cookie),
    (b"expect", Kind::Expect),
    (b"trailer", Kind::Trailer),
    (b"upgrade", Kind::HopByHop),
    (b"forwarded", Kind::ForwardedOther),
    (b"ratelimit", Kind::RateLimit),
    (b"x-api-key", Kind::ApiKey),
    (b"x-real-ip", Kind::ForwardedOther),
    (b"connection", Kind::Connection),
    (b"keep-alive", Kind::HopByHop),
    (b"user-agent", Kind::UserAgent),
    (b"x-client-ip", Kind::ForwardedOther),
    (b"x-request-id", Kind::RequestId),
    (b"authorization", Kind::Authorization),
    (b"x-rewrite-url", Kind::ForwardedOther),
    (b"x-source-path", Kind::SourcePath),
    (b"content-length", Kind::ContentLength),
    (b"http2-settings", Kind::HopByHop),
    (b"true-client-ip", Kind::ForwardedOther),
    (b"x-original-url", Kind::ForwardedOther),
    (b"front-end-https", Kind::ForwardedOther),
    (b"x-forwarded-for", Kind::ForwardedFor),
    (b"x-original-host", Kind::ForwardedOther),
    (b"ratelimit-limit", Kind::RateLimit),
    (b"ratelimit-reset", Kind::RateLimit),
    (b"proxy-connection", Kind::HopByHop),
    (b"ratelimit-policy", Kind::RateLimit),
    (b"x-forwarded-host", Kind::ForwardedHost),
    (b"transfer-encoding", Kind::TransferEncoding),
    (b"x-forwarded-proto", Kind::ForwardedProto),
    (b"x-ratelimit-limit", Kind::RateLimit),
    (b"x-ratelimit-reset", Kind::RateLimit),
    (b"proxy-authenticate", Kind::HopByHop),
    (b"proxy-authorization", Kind::HopByHop),
    (b"x-cluster-client-ip", Kind::ForwardedOther),
    (b"ratelimit-remaining", Kind::RateLimit),
    (b"x-ratelimit-remaining", Kind::RateLimit),
    (b"proxy-authentication-info", Kind::HopByHop),
];

/// What only proxies say of a client begins with it.
const FORWARDED: &[u8] = b"x-forwarded";

/// Longer than any name in [`KNOWN`]. Names are compared in this width, which takes a few
/// instructions where one of any length takes a loop.
const WIDTH: usize = 32;

/// The same, each filled up with zeros.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const WIDE: [[u8; WIDTH]; KNOWN.len()] = {
    let mut wide = [[0; WIDTH]; KNOWN.len()];
    let mut at = 0;
    while at < KNOWN.len() {
        let (place, _) = wide[at].split_at_mut(KNOWN[at].0.len());
        place.copy_from_slice(KNOWN[at].0);
        at += 1;
    }
    wide
};

/// Where the names of each length begin in [`KNOWN`]; they end where those of the next one begin.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const BY_LENGTH: [usize; WIDTH + 2] = {
    let mut begins = [KNOWN.len(); WIDTH + 2];
    let mut at = KNOWN.len();
    while at > 0 {
        at -= 1;
        let mut length = KNOWN[at].0.len() + 1;
        while length > 0 && begins[length - 1] > at {
            length -= 1;
            begins[length] = at;
        }
    }
    begins
};

impl Kind {
    /// What a line of this name is for.
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut wide = [0; WIDTH];
        let (start, rest) = name.split_at_checked(WIDTH).unwrap_or((name, &[]));
        if let Some(places) = wide.get_mut(..start.len()) {
            places.copy_from_slice(start);
        }
        wide.make_ascii_lowercase();
        let has_underscore = wide.iter().fold(false, |found, byte| found | (*byte == b'_'));
        if !has_underscore && !rest.contains(&b'_') {
            return Self::of_plain(&wide, name.len());
        }
        wide.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        match Self::of_plain(&wide, name.len()) {
            Self::Host => Self::Other,
            kind if kind.is_own() || kind == Self::ForwardedOther => Self::Twin,
            _ => Self::Other,
        }
    }

    /// `wide` is in lower case.
    fn of_plain(wide: &[u8; WIDTH], length: usize) -> Self {
        let begin = BY_LENGTH.get(length).copied().unwrap_or(KNOWN.len());
        let end = BY_LENGTH.get(length + 1).copied().unwrap_or(KNOWN.len());
        let mut candidates = WIDE.iter().zip(&KNOWN).take(end).skip(begin);
        match candidates.find(|(known, _)| *known == wide) {
            Some((_, (_, kind))) => *kind,
            None if wide.starts_with(FORWARDED) => Self::ForwardedOther,
            None => Self::Other,
        }
    }

    /// Whether the gateway reads or sets it, so that `Connection` can't name it away.
    pub(crate) fn is_own(self) -> bool {
        match self {
            Self::ApiKey
            | Self::Authorization
            | Self::ContentLength
            | Self::ForwardedFor
            | Self::ForwardedHost
            | Self::ForwardedProto
            | Self::Host
            | Self::RequestId
            | Self::SourcePath
            | Self::TransferEncoding => true,
            Self::Connection
            | Self::Cookie
            | Self::Date
            | Self::Expect
            | Self::ForwardedOther
            | Self::HopByHop
            | Self::RateLimit
            | Self::Trailer
            | Self::Twin
            | Self::UserAgent
            | Self::Other => false,
        }
    }
}

/// One header line.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) kind: Kind,
    /// As it was written.
    pub(crate) name: &'a [u8],
    /// Without space around it.
    pub(crate) value: &'a [u8],
}

/// The header lines of a message, in their order.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

impl<'a> Lines<'a> {
    /// The lines that `index` says stand in `bytes`.
    pub(crate) fn new(bytes: &'a [u8], index: &'a Index) -> Self {
        Self { bytes, index }
    }

    /// All of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Line<'a>> + Clone {
        self.index.0.iter().map(move |entry| Line {
            kind: entry.kind,
            name: entry.name.of(self.bytes),
            value: entry.value.of(self.bytes),
        })
    }

    /// The values of those of one kind.
    pub(crate) fn values(self, kind: Kind) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        let those = self.index.0.iter().filter(move |entry| entry.kind == kind);
        those.map(move |entry| entry.value.of(self.bytes))
    }

    /// The number the first line of a name has, or the largest there is, where it is larger; `None`: it
    /// has none, or there is no such line.
    pub(crate) fn number(self, name: &str) -> Option<u64> {
        let line = self.iter().find(|line| line.name.eq_ignore_ascii_case(name.as_bytes()))?;
        let value = line.value.trim_ascii();
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(value).ok()?.parse().ok();
        number.or_else(|| is_number.then_some(u64::MAX))
    }

    /// The words of a list that all lines of one kind are together (RFC 9110 section 5.6.1).
    pub(crate) fn tokens(self, kind: Kind) -> impl Iterator<Item = &'a [u8]> {
        self.values(kind)
            .flat_map(|value| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
    }

    /// Whether a word, in any case, is among them.
    pub(crate) fn has_token(self, kind: Kind, token: &[u8]) -> bool {
        self.tokens(kind).any(|other| other.eq_ignore_ascii_case(token))
    }

    /// Whether there is a line of this kind.
    pub(crate) fn has(self, kind: Kind) -> bool {
        self.index.0.iter().any(|entry| entry.kind == kind)
    }
}

/// Where the lines of a head stand in its bytes.
#[derive(Default)]
pub(crate) struct Index(SmallVec<[Entry; 16]>);

#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    name: Span,
    value: Span,
}

impl Index {
    /// Takes in what the parser found in `bytes`.
    pub(crate) fn of(bytes: &[u8], found: &[httparse::Header<'_>]) -> Self {
        let span = |part: &[u8]| {
            let start = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
            Span::new(start, part.len())
        };
        Self(
            found
                .iter()
                .map(|header| {
                    let name = header.name.as_bytes();
                    Entry { kind: Kind::of(name), name: span(name), value: span(header.value) }
                })
                .collect(),
        )
    }

    /// Writes a line behind `bytes` and takes it in.
    #[cfg(test)]
    pub(crate) fn push(&mut self, bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let at = bytes.len();
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        let between = at + name.len();
        self.note(Kind::of(name), at..between, between..bytes.len());
    }

    /// Takes in a line of which it is known what it is for and where it stands.
    pub(crate) fn note(&mut self, kind: Kind, name: Range<usize>, value: Range<usize>) {
        let span = |range: Range<usize>| Span::new(range.start, range.len());
        self.0.push(Entry { kind, name: span(name), value: span(value) });
    }
}

/// A part of a head, in numbers that reach over every buffer heads are read into.
#[derive(Clone, Copy)]
struct Span {
    start: u16,
    length: u16,
}

const _: () = assert!(CAPACITY <= 1 << u16::BITS);

impl Span {
    fn new(start: usize, length: usize) -> Self {
        let short = |number| u16::try_from(number).unwrap_or(u16::MAX);
        Self { start: short(start), length: short(length) }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        bytes.get(start..start + usize::from(self.length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_in_any_case_and_with_underscores() {
        for (name, kind) in [
            ("Host", Kind::Host),
            ("HOST", Kind::Host),
            ("hosts", Kind::Other),
            ("X-Api-Key", Kind::ApiKey),
            ("x_api_key", Kind::Twin),
            ("X_Api-Key", Kind::Twin),
            ("user_agent", Kind::Other),
            ("Content_Length", Kind::Twin),
            ("X-Forwarded-For", Kind::ForwardedFor),
            ("X_Forwarded_For", Kind::Twin),
            ("X-Forwarded", Kind::ForwardedOther),
            ("X-Forwarded-For-Somebody-Else", Kind::ForwardedOther),
            ("X_Forwarded-For-Somebody-Else", Kind::Twin),
            ("Proxy-Authentication-Info", Kind::HopByHop),
            ("Proxy-Authentication-Infos", Kind::Other),
            ("TE", Kind::HopByHop),
            ("RateLimit-Policy", Kind::RateLimit),
            ("", Kind::Other),
            ("A-Name-Longer-Than-Any-That-Is-Told-Apart_", Kind::Other),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn every_known_name_is_found() {
        assert!(KNOWN.is_sorted_by_key(|(name, _)| name.len()));
        for (name, kind) in KNOWN {
            assert_eq!(Kind::of(name), kind, "{}", String::from_utf8_lossy(name));
            assert_eq!(Kind::of(&name.to_ascii_uppercase()), kind);
        }
    }

    #[test]
    fn lines_are_found_where_they_stand() {
        let mut bytes = b"before".to_vec();
        let mut index = Index::default();
        index.push(&mut bytes, b"Cookie", b"a=1");
        index.push(&mut bytes, b"x", b"");
        index.push(&mut bytes, b"cookie", b"b=2");
        let lines = Lines::new(&bytes, &index);
        assert_eq!(lines.values(Kind::Cookie).collect::<Vec<_>>(), [b"a=1", b"b=2"]);
        let names: Vec<_> = lines.iter().map(|line| line.name).collect();
        assert_eq!(names, [&b"Cookie"[..], b"x", b"cookie"]);
        assert!(!lines.has(Kind::Host));
        index.push(&mut bytes, b"connection", b"x, Close ,,keep-alive");
        let lines = Lines::new(&bytes, &index);
        assert!(lines.has_token(Kind::Connection, b"close"));
        assert!(!lines.has_token(Kind::Connection, b"keep"));
    }

    #[test]
    fn a_number_larger_than_any_is_the_largest() {
        let number = |value: &[u8]| {
            let (mut bytes, mut index) = (Vec::new(), Index::default());
            index.push(&mut bytes, b"X-Cost", value);
            Lines::new(&bytes, &index).number("x-cost")
        };
        for largest in ["18446744073709551615", "18446744073709551616", &"9".repeat(99)] {
            assert_eq!(number(largest.as_bytes()), Some(u64::MAX), "{largest}");
        }
        assert_eq!([number(b"007"), number(b" 5 ")], [Some(7), Some(5)]);
        for none in ["", "-1", "-18446744073709551616", "1.5", "1e3", "18446744073709551616x"] {
            assert_eq!(number(none.as_bytes()), None, "{none}");
        }
    }
}
