//! Makes the head of a request out of a header block (RFC 9113 section 8.3), or says why it is none.

use std::ops::Range;

use http::Method;

use crate::{
    buffers::{Buffers, CAPACITY},
    error::{Malformed, Refusal},
    framing::{Doubt, Framing, Said},
    head::{Index, Kind, Lines, MAX_LINES},
    hpack::{Broken, Decoder, Name, Placed, Shown},
    request::{RequestHead, Target, Version},
};

/// Pieces a line of cookies may come in: a browser keeps 180 for a site. Each takes room in the index,
/// however short it is.
const MAX_CRUMBS: usize = 400;

/// The head of a request.
pub(super) struct Head {
    bytes: Vec<u8>,
    index: Index,
    method: Method,
    authority: Option<Range<usize>>,
    path: Range<usize>,
    has_http_scheme: bool,
    fault: Option<HeadFault>,
}

/// Why it is none.
#[derive(Clone, Copy)]
enum HeadFault {
    Malformed,
    TooLarge,
}

impl Head {
    /// Reads a whole block.
    ///
    /// # Errors
    /// When it breaks the rules of header compression, so that no other one can be read either.
    pub(super) fn read(
        decoder: &mut Decoder,
        block: &[u8],
        buffers: &Buffers,
    ) -> Result<Self, Broken> {
        let mut bytes = buffers.take();
        let mut reading = Reading::default();
        let decoded = decoder.decode(block, &mut bytes, CAPACITY, |bytes, field| {
            reading.take(bytes, field);
        });
        match decoded {
            Ok(Shown::Whole) => {}
            Ok(Shown::Part) => reading.fault = Some(HeadFault::TooLarge),
            Err(broken) => {
                buffers.give_back(&mut bytes);
                return Err(broken);
            }
        }
        Ok(reading.finish(bytes))
    }

    /// The head in the form all protocols share.
    pub(super) fn request(&self) -> RequestHead<'_> {
        let text = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        RequestHead {
            method: &self.method,
            target: Target::of_stream(
                self.authority.as_ref().map(text),
                text(&self.path),
                self.has_http_scheme,
            ),
            version: Version::Http2,
            lines: Lines::new(&self.bytes, &self.index),
        }
    }

    /// How the end of the body is told.
    ///
    /// # Errors
    /// Why the request is refused.
    pub(super) fn framing(&self, has_body: bool) -> Result<Framing, Refusal> {
        match self.fault {
            Some(HeadFault::TooLarge) => return Err(Refusal::HeadTooLarge),
            Some(HeadFault::Malformed) => return Err(Malformed::Head.into()),
            None => {}
        }
        let lines = Lines::new(&self.bytes, &self.index);
        match Said::by_request(lines, false)?.framing {
            Framing::Length(1..) if !has_body => Err(Doubt::ContentLength.into()),
            Framing::Length(_) if !has_body => Ok(Framing::Absent),
            Framing::Absent if has_body => Ok(Framing::Chunked),
            framing => Ok(framing),
        }
    }

    /// Whether the client sends its body only when it is asked to (RFC 9110 section 10.1.1).
    pub(super) fn expects_continue(&self) -> bool {
        Lines::new(&self.bytes, &self.index).has_token(Kind::Expect, b"100-continue")
    }

    /// Bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the memory back.
    pub(super) fn give_back(&mut self, buffers: &Buffers) {
        buffers.give_back(&mut self.bytes);
    }
}

/// Whether a block is what may stand behind a body (RFC 9113 section 8.1). `bytes` is to work in.
///
/// # Errors
/// As for a head.
pub(super) fn are_trailers(
    decoder: &mut Decoder,
    block: &[u8],
    bytes: &mut Vec<u8>,
) -> Result<bool, Broken> {
    let mut are_sound = true;
    let shown = decoder.decode(block, bytes, CAPACITY, |bytes, field| {
        are_sound &= field.is_sound
            && match field.name {
                Name::Regular(kind) => {
                    is_of_a_message(kind, field.name_in(bytes), field.value_in(bytes))
                }
                _ => false,
            };
    })?;
    Ok(are_sound && shown == Shown::Whole)
}

/// What was read of a block.
#[derive(Default)]
struct Reading {
    index: Index,
    lines: usize,
    crumbs: usize,
    method: Option<Method>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    has_scheme: bool,
    has_http_scheme: bool,
    fault: Option<HeadFault>,
}

impl Reading {
    fn take(&mut self, bytes: &[u8], field: Placed) {
        // All of them are one line (RFC 9113 section 8.2.3).
        let is_crumb = self.crumbs > 0 && matches!(field.name, Name::Regular(Kind::Cookie));
        let has_room = if is_crumb { self.crumbs < MAX_CRUMBS } else { self.lines < MAX_LINES };
        if !has_room {
            self.fault = Some(HeadFault::TooLarge);
            return;
        }
        let value = field.value_in(bytes);
        let value_starts = field.start + field.name_length;
        let value_at = value_starts..value_starts + field.value_length;
        let is_sound = field.is_sound
            && match field.name {
                Name::Regular(kind) => {
                    self.lines += usize::from(!is_crumb);
                    self.crumbs += usize::from(kind == Kind::Cookie);
                    self.index.note(kind, field.start..value_starts, value_at);
                    is_of_a_message(kind, field.name_in(bytes), value)
                }
                // They stand before all others, each once.
                _ if self.lines > 0 => false,
                Name::Method => {
                    let method = Method::from_bytes(value).ok();
                    let is_first = self.method.is_none();
                    is_first && method.is_some_and(|method| self.method.replace(method).is_none())
                }
                Name::Scheme => {
                    let is_first = !self.has_scheme;
                    self.has_scheme = true;
                    self.has_http_scheme = matches!(value, b"http" | b"https");
                    is_first
                }
                Name::Authority => self.authority.replace(value_at).is_none(),
                Name::Path => self.path.replace(value_at).is_none(),
                Name::Status | Name::OtherPseudo => false,
            };
        if !is_sound {
            self.fault = self.fault.or(Some(HeadFault::Malformed));
        }
    }

    fn finish(self, bytes: Vec<u8>) -> Head {
        let is_tunnel = self.method == Some(Method::CONNECT);
        // RFC 9113 sections 8.3.1 and 8.5.
        let is_whole = match is_tunnel {
            true => self.authority.is_some() && !self.has_scheme && self.path.is_none(),
            false => self.method.is_some() && self.has_scheme && self.path.is_some(),
        };
        let unknown = || Method::from_bytes(b"-").unwrap_or_default();
        Head {
            bytes,
            index: self.index,
            method: self.method.unwrap_or_else(unknown),
            authority: self.authority,
            path: self.path.unwrap_or_default(),
            has_http_scheme: self.has_http_scheme,
            fault: self.fault.or((!is_whole).then_some(HeadFault::Malformed)),
        }
    }
}

/// Whether a line may stand in a message over HTTP/2, which has no lines of a connection (RFC 9113
/// section 8.2.2).
fn is_of_a_message(kind: Kind, name: &[u8], value: &[u8]) -> bool {
    match kind {
        Kind::Connection | Kind::TransferEncoding => false,
        Kind::HopByHop => match name {
            b"keep-alive" | b"proxy-connection" | b"upgrade" => false,
            b"te" => value == b"trailers",
            _ => true,
        },
        _ => true,
    }
}
