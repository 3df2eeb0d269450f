//! Writes header blocks.
//!
//! Lines that are likely to come again go into the table and cost a byte from then on. Text is
//! written as it is: Huffman coding would save a quarter of what is not in the table, and cost more
//! than all else here.

use http::StatusCode;

use super::{
    MAX_TABLE, fixed,
    policy::{self, Way},
    table::{OVERHEAD, Table},
};

/// Longer names are rare and are not kept.
const WIDTH: usize = 32;

/// A line that counts more than this part of the table would push too many others out.
const LARGE: usize = 4;

/// Lines of one name in the table. When all of them say other things, so will the next one.
const MAX_OF_NAME: usize = 4;

/// The index of `:status: 200` among the lines every table begins with.
const STATUS: usize = 8;

/// One connection's writing side.
pub(crate) struct Encoder {
    /// With names as they were given: that is how they will be given again.
    table: Table<()>,
    /// The size the table is to have from the next block on.
    wanted: usize,
    /// The smallest one that was wanted since the last block.
    lowest: usize,
}

impl Encoder {
    /// One with an empty table, which takes no memory.
    pub(crate) fn new() -> Self {
        Self { table: Table::new(MAX_TABLE), wanted: MAX_TABLE, lowest: MAX_TABLE }
    }

    /// What the peer's `SETTINGS_HEADER_TABLE_SIZE` allows.
    pub(crate) fn set_max_size(&mut self, size: u32) {
        self.wanted = usize::try_from(size).unwrap_or(MAX_TABLE).min(MAX_TABLE);
        self.lowest = self.lowest.min(self.wanted);
    }

    /// Begins a block, which the status comes first in.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        let size = self.table.max_size();
        if self.lowest != size || self.wanted != size {
            self.resize(out);
        }
    }

    /// Says what becomes of the table: both sizes, if it was to be smaller for a while (RFC 7541
    /// section 4.2).
    #[cold]
    fn resize(&mut self, out: &mut Vec<u8>) {
        for size in [self.lowest, self.wanted] {
            if size != self.table.max_size() {
                self.table.set_max_size(size);
                put_integer(out, RESIZE, size);
            }
        }
        self.lowest = self.wanted;
    }

    /// Writes the status.
    pub(crate) fn status(&mut self, out: &mut Vec<u8>, status: StatusCode) {
        let index = match status.as_u16() {
            200 => STATUS,
            204 => STATUS + 1,
            206 => STATUS + 2,
            304 => STATUS + 3,
            400 => STATUS + 4,
            404 => STATUS + 5,
            500 => STATUS + 6,
            _ => return self.line(out, b":status", status.as_str().as_bytes()),
        };
        put_integer(out, INDEXED, index);
    }

    /// Writes a line. Its name may be in any case and is written in lower case.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        match self.table.position(name, value) {
            Some(nth) => put_integer(out, INDEXED, fixed::COUNT + 1 + nth),
            None => self.new_line(out, name, value),
        }
    }

    /// Writes a line that is not in the table, and puts it there if that does any good.
    #[inline(never)] // Most lines are there, and need none of its room on the stack.
    fn new_line(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let mut wide = [0; WIDTH];
        let Some(place) = wide.get_mut(..name.len()) else {
            put_literal(out, FRESH, 0, &name.to_ascii_lowercase(), value);
            return;
        };
        place.copy_from_slice(name);
        wide.make_ascii_lowercase();
        let lower = wide.get(..name.len()).unwrap_or_default();
        let (mark, index) = match policy::of(lower) {
            (Way::Kept, index) => self.mark_of(lower, value, index),
            (Way::Fresh, index) => (FRESH, index),
            (Way::Secret, index) => (SECRET, index),
        };
        put_literal(out, mark, index, lower, value);
        if mark == KEPT {
            self.table.insert(name, value, ());
        }
    }

    /// Whether a line is kept, and the index of its name, which may be in the table if it has no
    /// other.
    fn mark_of(&self, name: &[u8], value: &[u8], index: usize) -> (Mark, usize) {
        let (mut of_name, mut index) = (0, index);
        for (nth, (entry, text)) in self.table.entries().enumerate() {
            if entry.name(text).eq_ignore_ascii_case(name) {
                of_name += 1;
                index = if index == 0 { fixed::COUNT + 1 + nth } else { index };
            }
        }
        let size = name.len() + value.len() + OVERHEAD;
        let is_kept = of_name < MAX_OF_NAME && size <= self.table.max_size() / LARGE;
        (if is_kept { KEPT } else { FRESH }, index)
    }
}

/// How a field begins: bits that say what it is, and how many are left for a number (RFC 7541
/// section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    bits: u8,
    prefix: u32,
}

const INDEXED: Mark = Mark { bits: 0x80, prefix: 7 };
const KEPT: Mark = Mark { bits: 0x40, prefix: 6 };
const RESIZE: Mark = Mark { bits: 0x20, prefix: 5 };
const SECRET: Mark = Mark { bits: 0x10, prefix: 4 };
const FRESH: Mark = Mark { bits: 0x00, prefix: 4 };

/// Text begins with its length; one in Huffman code would have the first bit set.
const TEXT: Mark = Mark { bits: 0x00, prefix: 7 };

/// Writes a line with the index of its name, or with its name if that is 0.
#[inline]
fn put_literal(out: &mut Vec<u8>, mark: Mark, index: usize, name: &[u8], value: &[u8]) {
    put_integer(out, mark, index);
    if index == 0 {
        put_text(out, name);
    }
    put_text(out, value);
}

#[inline]
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, TEXT, text.len());
    out.extend_from_slice(text);
}

/// Writes a number (RFC 7541 section 5.1).
#[inline]
fn put_integer(out: &mut Vec<u8>, mark: Mark, number: usize) {
    let full = (1 << mark.prefix) - 1;
    if number < full {
        out.push(mark.bits | number as u8);
        return;
    }
    out.push(mark.bits | full as u8);
    let mut rest = number - full;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
