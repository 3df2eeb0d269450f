//! Where bodies end: what heads say of it, and a decoder that follows what they say.
//!
//! What two servers could read differently is refused (RFC 9112 section 6.3): a length that is no
//! plain number or is said twice in different ways, a coding other than a lone `chunked`, line ends
//! without CR within chunked coding.

use http::{Method, StatusCode};

use crate::head::{Kind, Lines};

/// How a body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// There is none.
    Absent,
    /// It has this many bytes.
    Length(u64),
    /// In chunks, the last of which is empty.
    Chunked,
    /// It ends with its connection.
    UntilClose,
}

/// What a head says that can't be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    ContentLength,
    TransferEncoding,
}

/// What a head says of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) framing: Framing,
    /// It holds a length beside a coding. The coding counts, and nothing may be read from the
    /// connection behind the body.
    pub(crate) is_contradictory: bool,
}

impl Said {
    /// What the head of an HTTP/1.1 request says; one of HTTP/1.0 knows no codings.
    ///
    /// # Errors
    /// What may be read in two ways.
    pub(crate) fn by_request(lines: Lines<'_>, knows_codings: bool) -> Result<Self, Doubt> {
        Self::read(lines, knows_codings, Framing::Absent)
    }

    /// What the head of an answer says, to a request of this method.
    ///
    /// # Errors
    /// What may be read in two ways.
    pub(crate) fn by_answer(
        lines: Lines<'_>,
        knows_codings: bool,
        method: &Method,
        status: StatusCode,
    ) -> Result<Self, Doubt> {
        let said = Self::read(lines, knows_codings, Framing::UntilClose)?;
        let has_none = *method == Method::HEAD
            || status.is_informational()
            || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        Ok(if has_none { Self { framing: Framing::Absent, ..said } } else { said })
    }

    fn read(lines: Lines<'_>, knows_codings: bool, otherwise: Framing) -> Result<Self, Doubt> {
        let length = length(lines)?;
        let mut codings = lines.values(Kind::TransferEncoding);
        let framing = match (codings.next(), codings.next()) {
            (None, _) => length.map_or(otherwise, Framing::Length),
            // Whatever a coding before `chunked` says would be lost on the way.
            (Some(one), None) if knows_codings && one.eq_ignore_ascii_case(b"chunked") => {
                Framing::Chunked
            }
            _ => return Err(Doubt::TransferEncoding),
        };
        let is_contradictory = framing == Framing::Chunked && length.is_some();
        Ok(Self { framing, is_contradictory })
    }
}

/// The length that is said, if only once or in the same way each time.
fn length(lines: Lines<'_>) -> Result<Option<u64>, Doubt> {
    let mut length = None;
    for text in lines.values(Kind::ContentLength) {
        let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(text).ok().filter(|_| is_plain);
        let number = number.and_then(|text| text.parse().ok()).ok_or(Doubt::ContentLength)?;
        if length.is_some_and(|earlier| earlier != number) {
            return Err(Doubt::ContentLength);
        }
        length = Some(number);
    }
    Ok(length)
}

/// Tells the data of a body from its framing, piece by piece as it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    /// All of it was seen.
    Ended,
}

/// What the next bytes are. All numbers count from the first byte the decoder was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Framing up to the first number, then so many bytes of the body.
    Data { skip: usize, length: usize },
    /// Framing and nothing more: what is behind has not come yet.
    Nothing { skip: usize },
    /// Framing up to the end of the body.
    End { skip: usize },
}

/// The body breaks the rules of its framing, or ends before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

impl Decoder {
    /// A decoder at the begin of a body.
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Absent | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the end was seen.
    pub(crate) fn has_ended(&self) -> bool {
        *self == Self::Ended
    }

    /// At most so many bytes are to come, framing aside; `None`: nobody knows.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Ended => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// At least so many bytes are to come, framing aside.
    pub(crate) fn at_least(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            // What was read of a size may be the begin of any.
            Self::Chunked(chunked) if chunked.state == State::Size => u64::MAX,
            Self::Chunked(chunked) => chunked.size,
            // It takes the end of the connection with it.
            Self::UntilClose => u64::MAX,
            Self::Ended => 0,
        }
    }

    /// Reads on. What is data counts as taken.
    ///
    /// # Errors
    /// When this is no body of its framing.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Broken> {
        let piece = match self {
            Self::Ended => Piece::End { skip: 0 },
            _ if bytes.is_empty() => Piece::Nothing { skip: 0 },
            Self::UntilClose => Piece::Data { skip: 0, length: bytes.len() },
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Piece::Data { skip: 0, length }
            }
            Self::Chunked(chunked) => chunked.next(bytes)?,
        };
        if let Piece::End { .. } = piece {
            *self = Self::Ended;
        }
        Ok(piece)
    }

    /// Says that the connection has ended.
    ///
    /// # Errors
    /// When the body had not.
    pub(crate) fn close(&mut self) -> Result<(), Broken> {
        match self {
            Self::UntilClose | Self::Ended => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(Broken),
        }
    }
}

/// Bytes of framing between two pieces of data, and behind the last one: sizes, extensions,
/// trailers. They are read and thrown away.
const MAX_OVERHEAD: u32 = 16 * 1024;

/// Reads chunked coding (RFC 9112 section 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Chunked {
    state: State,
    /// Of the chunk at hand: its size while that is being read, then what is left of it.
    size: u64,
    /// Bytes of framing since the last data.
    overhead: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Begin,
    Size,
    /// White space behind a size.
    Space,
    Extension,
    /// The CR behind a size was seen.
    SizeEnd,
    Data,
    /// Behind the data of a chunk.
    DataEnd,
    DataEndLine,
    /// At the begin of a line of the trailer section, or of the empty one behind it.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    /// The CR of the empty line was seen.
    Last,
}

impl Chunked {
    fn next(&mut self, bytes: &[u8]) -> Result<Piece, Broken> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.state == State::Data {
                let rest = bytes.len() - at;
                let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest);
                self.size -= length as u64;
                if self.size == 0 {
                    self.state = State::DataEnd;
                }
                self.overhead = 0;
                return Ok(Piece::Data { skip: at, length });
            }
            self.overhead += 1;
            if self.overhead > MAX_OVERHEAD {
                return Err(Broken);
            }
            if self.step(*byte)? {
                return Ok(Piece::End { skip: at + 1 });
            }
        }
        Ok(Piece::Nothing { skip: bytes.len() })
    }

    /// Takes one byte of framing; true: it was the last.
    fn step(&mut self, byte: u8) -> Result<bool, Broken> {
        self.state = match (self.state, byte) {
            (State::Begin | State::Size, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).ok_or(Broken)?;
                // Sixteen digits fit; leading zeros beyond that are nobody's honest size.
                let bigger = self.size.checked_mul(16).ok_or(Broken)?;
                self.size = bigger + u64::from(digit);
                State::Size
            }
            (State::Size | State::Space, b' ' | b'\t') => State::Space,
            (State::Size | State::Space, b';') => State::Extension,
            (State::Size | State::Space | State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, byte) if is_text(byte) => State::Extension,
            (State::SizeEnd, b'\n') if self.size == 0 => State::Trailer,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataEnd, b'\r') => State::DataEndLine,
            (State::DataEndLine, b'\n') => State::Begin,
            (State::Trailer, b'\r') => State::Last,
            (State::Trailer | State::TrailerLine, byte) if is_text(byte) => State::TrailerLine,
            (State::TrailerLine, b'\r') => State::TrailerLineEnd,
            (State::TrailerLineEnd, b'\n') => State::Trailer,
            (State::Last, b'\n') => return Ok(true),
            _ => return Err(Broken),
        };
        Ok(false)
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::Index;

    fn said(lines: &[(&str, &str)], read: impl Fn(Lines<'_>) -> Result<Said, Doubt>) -> String {
        let (mut bytes, mut index) = (Vec::new(), Index::default());
        for (name, value) in lines {
            index.push(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        match read(Lines::new(&bytes, &index)) {
            Ok(Said { framing, is_contradictory }) => {
                format!("{framing:?}{}", if is_contradictory { " contradictory" } else { "" })
            }
            Err(doubt) => format!("{doubt:?}?"),
        }
    }

    #[test]
    fn heads_say_how_a_body_ends_or_are_refused() {
        let (cl, te) = ("content-length", "transfer-encoding");
        for (lines, request, answer) in [
            (&[][..], "Absent", "UntilClose"),
            (&[(cl, "0")], "Length(0)", "Length(0)"),
            (&[(cl, "003")], "Length(3)", "Length(3)"),
            (&[(cl, "3"), (cl, "3")], "Length(3)", "Length(3)"),
            (&[(cl, "3"), (cl, "4")], "ContentLength?", "ContentLength?"),
            (&[(cl, "")], "ContentLength?", "ContentLength?"),
            (&[(cl, "+3")], "ContentLength?", "ContentLength?"),
            (&[(cl, "3, 3")], "ContentLength?", "ContentLength?"),
            (
                &[(cl, "18446744073709551615")],
                "Length(18446744073709551615)",
                "Length(18446744073709551615)",
            ),
            (&[(cl, "18446744073709551616")], "ContentLength?", "ContentLength?"),
            (&[(te, "Chunked")], "Chunked", "Chunked"),
            (&[(te, "gzip, chunked")], "TransferEncoding?", "TransferEncoding?"),
            (&[(te, "chunked"), (te, "chunked")], "TransferEncoding?", "TransferEncoding?"),
            (&[(te, "")], "TransferEncoding?", "TransferEncoding?"),
            (&[(te, "chunked"), (cl, "3")], "Chunked contradictory", "Chunked contradictory"),
            (&[(te, "chunked"), (cl, "x")], "ContentLength?", "ContentLength?"),
        ] {
            assert_eq!(said(lines, |lines| Said::by_request(lines, true)), request, "{lines:?}");
            let by_answer =
                |lines: Lines<'_>| Said::by_answer(lines, true, &Method::GET, StatusCode::OK);
            assert_eq!(said(lines, by_answer), answer, "{lines:?}");
        }
        assert_eq!(
            said(&[(te, "chunked")], |lines| Said::by_request(lines, false)),
            "TransferEncoding?"
        );
        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
            let status = StatusCode::from_u16(status).expect("a status");
            let none = said(&[(cl, "9")], |lines| Said::by_answer(lines, true, &method, status));
            assert_eq!(none, "Absent", "{method} {status}");
        }
    }

    /// Decodes what comes in pieces of this size; the data, and what is left behind the end.
    fn decode(coded: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), Broken> {
        let mut decoder = Decoder::new(Framing::Chunked);
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for bytes in coded.chunks(piece) {
            let mut bytes = bytes;
            if decoder.has_ended() {
                rest.extend_from_slice(bytes);
                continue;
            }
            loop {
                match decoder.next(bytes)? {
                    Piece::Data { skip, length } => {
                        data.extend_from_slice(&bytes[skip..skip + length]);
                        bytes = &bytes[skip + length..];
                    }
                    Piece::Nothing { .. } => break,
                    Piece::End { skip } => {
                        rest.extend_from_slice(&bytes[skip..]);
                        break;
                    }
                }
            }
        }
        decoder.close()?;
        Ok((data, rest))
    }

    #[test]
    fn chunks_are_read_strictly_however_they_are_cut() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(17_000));
        let trailers = format!("0\r\n{}\r\n", "t: 1\r\n".repeat(4_000));
        for (coded, data) in [
            ("0\r\n\r\n", Some("")),
            ("5\r\nhello\r\n0\r\n\r\nGET /", Some("hello")),
            ("5;a=\"b\"\r\nhello\r\n00\r\nt: 1\r\nu: 2\r\n\r\n", Some("hello")),
            ("A \t\r\n0123456789\r\n0\r\n\r\n", Some("0123456789")),
            ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Some("hello")),
            ("5\nhello\r\n0\r\n\r\n", None),
            ("5\r\nhello\n0\r\n\r\n", None),
            ("5\r\nhello0\r\n\r\n", None),
            ("5\r\nhello\r\n0\r\n\n", None),
            ("0\r\nt: 1\n\r\n", None),
            ("5;a\nb\r\nhello\r\n0\r\n\r\n", None),
            ("\r\n", None),
            (";a\r\n", None),
            ("-1\r\n", None),
            ("0x5\r\nhello\r\n0\r\n\r\n", None),
            ("5 5\r\nhello\r\n0\r\n\r\n", None),
            ("10000000000000005\r\nhello", None),
            ("5\r\nhel", None),
            ("0\r\n", None),
            (&long, None),
            (&trailers, None),
        ] {
            for piece in [1, 2, 3, 7, 100_000] {
                let decoded = decode(coded.as_bytes(), piece).ok();
                let (found, rest) = decoded.clone().unzip();
                assert_eq!(found.as_deref(), data.map(str::as_bytes), "{piece} {coded:?}");
                if coded.ends_with("GET /") {
                    assert_eq!(rest.as_deref(), Some(&b"GET /"[..]), "{piece}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_put_into_chunks_comes_out(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
            piece in 1_usize..500,
        ) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                coded.extend_from_slice(chunk);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\nnext");
            let (data, rest) = decode(&coded, piece).expect("sound");
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(rest, b"next");
        }

        #[test]
        fn nothing_makes_a_decoder_panic_or_read_beyond(
            coded in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123aF\r\n; ".to_vec())], 0..200),
            piece in 1_usize..50,
        ) {
            if let Ok((data, rest)) = decode(&coded, piece) {
                prop_assert!(data.len() + rest.len() < coded.len());
            }
        }
    }
}
