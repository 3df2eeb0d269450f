//! Numbers in as few bytes as they need: seven bits in each, the lowest first.

/// Writes a number.
pub(crate) fn put(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "seven bits of it are wanted")]
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.extend(u8::try_from(number));
}

/// Takes a number off the front; `None` where there is none.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
