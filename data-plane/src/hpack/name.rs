//! What a field's name says it is, and whether its name and value are what may be sent.

use crate::head::Kind;

/// What a field is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    /// A pseudo-header of some extension.
    OtherPseudo,
    /// A header line.
    Regular(Kind),
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            [b':', ..] => Self::OtherPseudo,
            _ => Self::Regular(Kind::of(name)),
        }
    }
}

/// Whether a name may be sent: a token in lower case, behind a colon if it is no header line's
/// (RFC 9113 section 8.2.1).
pub(super) fn is_sound_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|byte| is_lower_token(*byte))
}

/// Whether a value may be sent: without control characters and without space around it.
pub(super) fn is_sound_value(value: &[u8]) -> bool {
    let is_control = |byte: u8| (byte < b' ') & (byte != b'\t') | (byte == 0x7f);
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    // To the end in any case, so that many bytes can be looked at at once.
    let has_control = value.iter().fold(false, |found, byte| found | is_control(*byte));
    !has_control && !is_space(value.first()) && !is_space(value.last())
}

fn is_lower_token(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
    )
}
