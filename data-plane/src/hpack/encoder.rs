//! Writes header blocks.
//!
//! Lines that are likely to come again go into the table and cost a byte from then on. Text is
//! written as it is: Huffman coding would save a third of it once, and cost more than all else here.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use http::StatusCode;

use super::{
    MAX_TABLE, fixed,
    policy::{self, Way},
    table::{OVERHEAD, Table},
};

/// Longer names are written as they are. Shorter ones are handled in this width, which takes a few
/// instructions where one of any length takes a loop.
const WIDTH: usize = 32;

/// A line that counts more than this part of the table would push too many others out.
const LARGE: usize = 4;

/// Lines of one name in the table. When all of them say other things, so will the next one.
const MAX_OF_NAME: usize = 4;

/// The static index of `:status: 200`, the first of a status; each of them has the name.
const STATUS: usize = 8;

/// One connection's writing side.
pub(crate) struct Encoder {
    /// With a hash of each line.
    table: Table<u32>,
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
        // RFC 7541 section 4.2: both, if it was lowered for a while.
        for size in [self.lowest, self.wanted] {
            if size != self.table.max_size() {
                self.table.set_max_size(size);
                put_integer(out, 0x20, 5, size);
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
            _ => {
                let name = Lower::of(b":status").unwrap_or_default();
                self.kept(out, &name, STATUS, status.as_str().as_bytes());
                return;
            }
        };
        put_integer(out, 0x80, 7, index);
    }

    /// Writes a line. Its name may be in any case and is written in lower case.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let Some(name) = Lower::of(name) else {
            put_literal(out, Form::Fresh, 0, &name.to_ascii_lowercase(), value);
            return;
        };
        let text = name.text();
        match policy::of(text) {
            (Way::Kept, index) => self.kept(out, &name, index, value),
            (Way::Fresh, index) => put_literal(out, Form::Fresh, index, text, value),
            (Way::Secret, index) => put_literal(out, Form::Secret, index, text, value),
        }
    }

    /// Writes a line that is in the table or is to be.
    fn kept(&mut self, out: &mut Vec<u8>, name: &Lower, index: usize, value: &[u8]) {
        let hash = name.hash_with(value);
        match self.table.position(|note| *note == hash) {
            Some(nth) if self.is_line(nth, name.text(), value) => {
                put_integer(out, 0x80, 7, fixed::COUNT + 1 + nth);
            }
            _ => self.new_line(out, name.text(), index, value, hash),
        }
    }

    fn is_line(&self, nth: usize, name: &[u8], value: &[u8]) -> bool {
        let found = self.table.get(nth).and_then(|(_, text)| text.split_at_checked(name.len()));
        found == Some((name, value))
    }

    /// Writes a line that is not in the table.
    fn new_line(&mut self, out: &mut Vec<u8>, name: &[u8], index: usize, value: &[u8], hash: u32) {
        let (mut of_name, mut newest) = (0, None);
        for (nth, (entry, text)) in self.table.entries().enumerate() {
            if entry.name(text) == name {
                of_name += 1;
                newest = newest.or(Some(nth));
            }
        }
        let index = match newest {
            Some(nth) if index == 0 => fixed::COUNT + 1 + nth,
            _ => index,
        };
        let size = name.len() + value.len() + OVERHEAD;
        if of_name >= MAX_OF_NAME || size > self.table.max_size() / LARGE {
            put_literal(out, Form::Fresh, index, name, value);
            return;
        }
        put_literal(out, Form::Kept, index, name, value);
        self.table.insert(name, value, hash);
    }
}

/// A name in lower case.
#[derive(Default)]
struct Lower {
    /// With zeros behind it.
    wide: [u8; WIDTH],
    length: usize,
}

impl Lower {
    /// `None` if it is too long.
    fn of(name: &[u8]) -> Option<Self> {
        let mut wide = [0; WIDTH];
        wide.get_mut(..name.len())?.copy_from_slice(name);
        wide.make_ascii_lowercase();
        Some(Self { wide, length: name.len() })
    }

    fn text(&self) -> &[u8] {
        self.wide.get(..self.length).unwrap_or_default()
    }

    /// A hash of the line with this value.
    fn hash_with(&self, value: &[u8]) -> u32 {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(&self.wide);
        hasher.write(value);
        // Half of it tells lines well enough apart that are compared afterwards.
        hasher.finish() as u32
    }
}

/// What becomes of a line that is written out (RFC 7541 section 6.2).
#[derive(Clone, Copy)]
enum Form {
    Kept,
    Fresh,
    Secret,
}

/// Writes a line with the index of its name, or with its name if that is 0.
fn put_literal(out: &mut Vec<u8>, form: Form, index: usize, name: &[u8], value: &[u8]) {
    match form {
        Form::Kept => put_integer(out, 0x40, 6, index),
        Form::Fresh => put_integer(out, 0x00, 4, index),
        Form::Secret => put_integer(out, 0x10, 4, index),
    }
    if index == 0 {
        put_text(out, name);
    }
    put_text(out, value);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
}

/// Writes a number in so many bits of a byte that begins with `mark`, and more bytes if need be
/// (RFC 7541 section 5.1).
fn put_integer(out: &mut Vec<u8>, mark: u8, prefix: u32, number: usize) {
    let full = (1 << prefix) - 1;
    let Some(mut rest) = number.checked_sub(full) else {
        out.push(mark | number as u8);
        return;
    };
    out.push(mark | full as u8);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
