//! Reads text in HPACK's Huffman code (RFC 7541 section 5.2).
//!
//! The code is canonical: the codes of a length are consecutive numbers, in the order of their
//! symbols, and begin where those of the length before end. So the lengths say all.

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
    out.reserve(coded.len() * 8 / SHORTEST);
    let mut bits = Bits { rest: coded, window: 0, count: 0 };
    loop {
        bits.fill();
        let symbol = bits.symbol()?;
        if u32::from(symbol.length) > bits.count {
            return if bits.are_padding() { Ok(()) } else { Err(Broken::Huffman) };
        }
        bits.skip(symbol.length);
        out.push(symbol.byte);
    }
}

/// What is still to be decoded.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the top. Those behind them are zeros, and ones behind the very last.
    window: u64,
    /// How many there are.
    count: u32,
}

impl Bits<'_> {
    /// Sees to it that the next code is whole.
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some((four, rest)) = self.rest.split_first_chunk() {
            self.window |= u64::from(u32::from_be_bytes(*four)) << (32 - self.count);
            self.count += 32;
            self.rest = rest;
            return;
        }
        for byte in self.rest {
            self.window |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
        self.rest = &[];
        self.window |= u64::MAX >> self.count;
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
        // There is no byte of the symbol that ends a text, unless it is padding that looks so.
        let byte = match SYMBOLS.get(at) {
            Some(byte) => *byte,
            None if self.count < row.length => 0,
            None => return Err(Broken::Huffman),
        };
        Ok(Symbol { byte, length: row.length as u8 })
    }

    fn skip(&mut self, length: u8) {
        self.window <<= length;
        self.count -= u32::from(length);
    }

    fn are_padding(&self) -> bool {
        self.count < 8 && self.window == u64::MAX
    }
}
