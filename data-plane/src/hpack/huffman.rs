//! Reads text in HPACK's Huffman code (RFC 7541 section 5.2).
//!
//! The code is canonical: the codes of a length are consecutive numbers, in the order of their
//! symbols, and begin where those of the length before end. So the lengths say all.

use std::slice;

use super::Broken;

/// How many bits the code of each byte has (RFC 7541 appendix B). The 257th symbol ends a text,
/// never stands in one, and has the last code of the longest ones.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Codes of at most this many bits are looked up, which are those of nearly all that is sent.
const SHORT: u32 = 8;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    length: u32,
    /// The first one, followed by zeros up to 32 bits.
    first: u64,
    /// The number behind all that begin with one of them.
    end: u64,
    /// Where the symbol of the first one stands in [`SYMBOLS`].
    symbols: usize,
}

/// All bytes, those with shorter codes first.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static SYMBOLS: [u8; 256] = {
    let mut symbols = [0; 256];
    let (mut at, mut length) = (0, SHORTEST);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static ROWS: [Row; LONGEST - SHORTEST + 1] = {
    let mut rows = [Row { length: 0, first: 0, end: 0, symbols: 0 }; LONGEST - SHORTEST + 1];
    let (mut first, mut symbols) = (0, 0);
    let mut row = 0;
    while row < rows.len() {
        let length = SHORTEST + row;
        let mut count = if length == LONGEST { 1 } else { 0 };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            count += (LENGTHS[symbol] as usize == length) as usize;
            symbol += 1;
        }
        let end = first + ((count as u64) << (32 - length));
        rows[row] = Row { length: length as u32, first, end, symbols };
        first = end;
        symbols += count;
        row += 1;
    }
    assert!(first == 1 << 32, "the codes take up all there is");
    rows
};

/// A symbol and the length of its code, which is 0 where a longer code begins with these bits.
#[derive(Clone, Copy, Default)]
struct Symbol {
    byte: u8,
    length: u8,
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static SHORTS: [Symbol; 1 << SHORT] = {
    let mut shorts = [Symbol { byte: 0, length: 0 }; 1 << SHORT];
    let mut bits = 0;
    while bits < shorts.len() {
        let top = (bits as u64) << (32 - SHORT);
        let mut row = 0;
        while top >= ROWS[row].end {
            row += 1;
        }
        let Row { length, first, symbols, .. } = ROWS[row];
        if length <= SHORT {
            let nth = (top - first) >> (32 - length);
            shorts[bits] = Symbol { byte: SYMBOLS[symbols + nth as usize], length: length as u8 };
        }
        bits += 1;
    }
    shorts
};

/// Writes what `coded` says behind `out`.
///
/// # Errors
/// When it ends otherwise than in less than a byte of ones, or says before that it has ended.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let start = out.len();
    // What the shortest codes would make of it.
    out.resize(start + coded.len() * 8 / SHORTEST, 0);
    let mut room = out.get_mut(start..).unwrap_or_default().iter_mut();
    let result = decode_into(coded, &mut room);
    let unused = room.len();
    out.truncate(out.len() - unused);
    result
}

fn decode_into(coded: &[u8], room: &mut slice::IterMut<'_, u8>) -> Result<(), Broken> {
    let mut bits = Bits { rest: coded, window: 0, count: 0 };
    while bits.fill() {
        let symbol = bits.symbol()?;
        bits.skip(symbol);
        put(room, symbol);
    }
    bits.fill_up();
    loop {
        let symbol = bits.symbol()?;
        if u32::from(symbol.length) > bits.count {
            return if bits.are_padding() { Ok(()) } else { Err(Broken::Huffman) };
        }
        bits.skip(symbol);
        put(room, symbol);
    }
}

fn put(room: &mut slice::IterMut<'_, u8>, symbol: Symbol) {
    if let Some(place) = room.next() {
        *place = symbol.byte;
    }
}

/// What is still to be decoded.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the top, and zeros behind them.
    window: u64,
    /// How many there are.
    count: u32,
}

impl Bits<'_> {
    /// Sees to it that the next code is whole. False: perhaps it is not, for little is left.
    fn fill(&mut self) -> bool {
        if self.count >= 32 {
            return true;
        }
        let Some((four, rest)) = self.rest.split_first_chunk() else {
            return false;
        };
        self.window |= u64::from(u32::from_be_bytes(*four)) << (32 - self.count);
        self.count += 32;
        self.rest = rest;
        true
    }

    /// Takes in what is left. A code that is longer than all of it is none.
    fn fill_up(&mut self) {
        for byte in self.rest {
            self.window |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next one.
    fn symbol(&self) -> Result<Symbol, Broken> {
        let start = usize::from(self.window.to_be_bytes()[0]);
        let short = SHORTS.get(start).copied().unwrap_or_default();
        if short.length > 0 { Ok(short) } else { self.long_symbol() }
    }

    #[cold]
    fn long_symbol(&self) -> Result<Symbol, Broken> {
        let top = self.window >> 32;
        let row = ROWS.iter().find(|row| top < row.end).ok_or(Broken::Huffman)?;
        let nth = (top - row.first) >> (32 - row.length);
        let at = row.symbols + usize::try_from(nth).unwrap_or(usize::MAX);
        // The symbol that ends a text is behind all others.
        let byte = *SYMBOLS.get(at).ok_or(Broken::Huffman)?;
        Ok(Symbol { byte, length: row.length as u8 })
    }

    fn skip(&mut self, symbol: Symbol) {
        self.window <<= symbol.length;
        self.count -= u32::from(symbol.length);
    }

    /// Whether less than a byte is left, and all ones.
    fn are_padding(&self) -> bool {
        self.count < 8 && self.window.leading_ones() >= self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The code of a byte, or of the end, and its length: made from the lengths alone.
    fn code(symbol: usize) -> (u64, usize) {
        let length =
            |symbol: usize| LENGTHS.get(symbol).map_or(LONGEST, |length| usize::from(*length));
        let wanted = (length(symbol), symbol);
        let before = (0..=256).filter(|symbol| (length(*symbol), *symbol) < wanted);
        let sum: u64 = before.map(|symbol| 1 << (LONGEST - length(symbol))).sum();
        (sum >> (LONGEST - wanted.0), wanted.0)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let (code, length) = code(usize::from(*byte));
            bits.push_str(&format!("{code:0length$b}"));
        }
        bits.push_str(&"1".repeat(bits.len().wrapping_neg() % 8));
        let byte = |bits| u8::from_str_radix(bits, 2).expect("eight bits");
        (0..bits.len() / 8).map(|nth| byte(&bits[8 * nth..8 * nth + 8])).collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = b"before".to_vec();
        decode(coded, &mut out)?;
        Ok(out.split_off(6))
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 7541 appendix B
        for (symbol, expected) in [
            (usize::from(b'0'), (0x0, 5)),
            (usize::from(b't'), (0x9, 5)),
            (usize::from(b' '), (0x14, 6)),
            (usize::from(b'z'), (0x7b, 7)),
            (usize::from(b'&'), (0xf8, 8)),
            (usize::from(b'?'), (0x3fc, 10)),
            (usize::from(b'{'), (0x7ffe, 15)),
            (usize::from(b'\\'), (0x7fff0, 19)),
            (128, (0xfffe6, 20)),
            (1, (0x7fffd8, 23)),
            (255, (0x3ffffee, 26)),
            (249, (0xffffffe, 28)),
            (22, (0x3ffffffe, 30)),
            (256, (0x3fffffff, 30)),
        ] {
            assert_eq!(code(symbol), expected, "{symbol}");
        }
        assert_eq!(encode(b"www.example.com"), b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
    }

    #[test]
    fn every_byte_is_read_in_every_place() {
        for byte in 0..=255 {
            for before in 0..8 {
                let text = [&b"00000000"[..before], &[byte, b'1', byte]].concat();
                assert_eq!(decoded(&encode(&text)), Ok(text));
            }
        }
    }

    #[test]
    fn an_end_within_and_wrong_padding_are_refused() {
        for (coded, is_sound) in [
            (&b""[..], true),
            (b"\x07", true),
            (b"\x1f", true),
            (b"\x1e", false),
            (b"\x18", false),
            (b"\x1f\xff", false),
            (b"\xff", false),
            (b"\xff\xff\xff\xff", false),
            (b"\xff\xff\xff\xfc", false),
            (b"\xff\xff\xff\xfb", true),
            (b"\xff\xff\xff\xfc\x07\x07\x07\x07", false),
        ] {
            assert_eq!(decoded(coded).is_ok(), is_sound, "{coded:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_coded_is_read(
            text in prop_oneof!["[ -~]{0,100}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..100)],
        ) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn what_is_read_was_coded_like_that(coded in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
