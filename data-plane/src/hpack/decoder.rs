//! Reads header blocks.
//!
//! A field that was sent before is copied out of a table, with what was found out about it then;
//! other text is decoded right where it is wanted, so that nothing is copied twice.

use super::{
    Broken, MAX_TABLE,
    fixed::{self, Note},
    huffman,
    name::{Name, is_sound_name, is_sound_value},
    table::{Entry, Table},
};

/// Table sizes a block may begin with (RFC 7541 section 4.2).
const MAX_RESIZES: usize = 2;

/// Bytes of text beyond what is shown. The tables let a few bytes stand for 4 KiB of it, again and
/// again; an honest block of any size we take has less than this.
const MAX_UNSEEN: usize = 1024 * 1024;

/// One connection's reading side.
pub(crate) struct Decoder {
    table: Table<Note>,
}

/// A field, where it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) name: Name,
    /// Its name is a token in lower case, and its value has no control characters and no space
    /// around it (RFC 9113 section 8.2.1).
    pub(crate) is_sound: bool,
    /// Where its name begins. Its value is right behind it.
    pub(crate) start: usize,
    pub(crate) name_length: usize,
    pub(crate) value_length: usize,
}

impl Placed {
    /// Its name, in the bytes it was written to.
    pub(crate) fn name_in(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.start + self.name_length).unwrap_or_default()
    }

    /// Its value.
    pub(crate) fn value_in(self, bytes: &[u8]) -> &[u8] {
        let start = self.start + self.name_length;
        bytes.get(start..start + self.value_length).unwrap_or_default()
    }
}

/// How much of a block was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Whole,
    /// From some field on there was no room.
    Part,
}

impl Decoder {
    /// One with an empty table, which takes no memory.
    pub(crate) fn new() -> Self {
        Self { table: Table::new(MAX_TABLE) }
    }

    /// Reads a whole block. Each field is written behind `out` and shown to `take`, which may leave
    /// it there or cut it off. At most `max` bytes come to be there, with what was in `out` before
    /// and what was cut off; of the rest of a larger block only the table gets to know.
    ///
    /// # Errors
    /// When it is no header block. The connection can't be used any more.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        out: &mut Vec<u8>,
        max: usize,
        mut take: impl FnMut(&mut Vec<u8>, Placed),
    ) -> Result<Shown, Broken> {
        let mut reader = Reader { rest: block };
        self.resize(&mut reader)?;
        let mut room = max.saturating_sub(out.len());
        while let Some(first) = reader.first() {
            let start = out.len();
            let (note, name_length, length) = if is_indexed(first) {
                let (entry, text) = self.find(reader.integer(7)?)?;
                if text.len() <= room {
                    out.extend_from_slice(text);
                }
                (entry.note, usize::from(entry.name_length), text.len())
            } else {
                let (note, name_length) = self.literal(&mut reader, out)?;
                (note, name_length, out.len() - start)
            };
            if length > room {
                out.truncate(start);
                self.follow(reader)?;
                return Ok(Shown::Part);
            }
            room -= length;
            let value_length = length - name_length;
            let Note { name, is_sound, .. } = note;
            take(out, Placed { name, is_sound, start, name_length, value_length });
        }
        Ok(Shown::Whole)
    }

    /// Reads the rest of a block of which nothing more is shown.
    #[cold]
    fn follow(&mut self, mut reader: Reader<'_>) -> Result<(), Broken> {
        let (mut text, mut unseen) = (Vec::new(), 0);
        while let Some(first) = reader.first() {
            if is_indexed(first) {
                self.find(reader.integer(7)?)?;
                continue;
            }
            text.clear();
            self.literal(&mut reader, &mut text)?;
            unseen += text.len();
            if unseen > MAX_UNSEEN {
                return Err(Broken::Excess);
            }
        }
        Ok(())
    }

    /// Reads the table sizes at the begin of a block.
    fn resize(&mut self, reader: &mut Reader<'_>) -> Result<(), Broken> {
        for _ in 0..MAX_RESIZES {
            if !reader.first().is_some_and(is_resize) {
                return Ok(());
            }
            let size = reader.integer(5)?;
            if size > MAX_TABLE {
                return Err(Broken::TableSize);
            }
            self.table.set_max_size(size);
        }
        Ok(())
    }

    /// Reads a field that is not indexed as a whole, writes it behind `out` and puts it into the
    /// table if it says so. What there is to note of it, and the length of its name.
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(Note, usize), Broken> {
        let (is_kept, prefix) = match reader.first() {
            Some(first) if is_resize(first) => return Err(Broken::TableSize),
            Some(first) => (first & 0x40 != 0, if first & 0x40 != 0 { 6 } else { 4 }),
            None => return Err(Broken::Cut),
        };
        let start = out.len();
        let index = reader.integer(prefix)?;
        let (name, has_sound_name) = if index == 0 {
            reader.text(out)?;
            let text = out.get(start..).unwrap_or_default();
            (Name::of(text), is_sound_name(text))
        } else {
            let (entry, text) = self.find(index)?;
            out.extend_from_slice(entry.name(text));
            (entry.note.name, entry.note.has_sound_name)
        };
        let name_length = out.len() - start;
        reader.text(out)?;
        let text = out.get(start..).unwrap_or_default();
        let (name_text, value) = text.split_at_checked(name_length).unwrap_or_default();
        let is_sound = has_sound_name && is_sound_value(value);
        let note = Note { name, has_sound_name, is_sound };
        if is_kept {
            self.table.insert(name_text, value, note);
        }
        Ok((note, name_length))
    }

    /// A field of either table, and its text.
    fn find(&self, index: usize) -> Result<(&Entry<Note>, &[u8]), Broken> {
        let nth = index.checked_sub(1).ok_or(Broken::Index)?;
        match fixed::ENTRIES.get(nth) {
            Some(entry) => Ok((entry, entry.text(&fixed::BYTES))),
            None => self.table.get(nth - fixed::COUNT).ok_or(Broken::Index),
        }
    }
}

// What a field begins with (RFC 7541 section 6).

fn is_indexed(first: u8) -> bool {
    first & 0x80 != 0
}

fn is_resize(first: u8) -> bool {
    first & 0xe0 == 0x20
}

/// What is left of a block.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.rest.split_first().ok_or(Broken::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number that begins in so many bits of the next byte (RFC 7541 section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, Broken> {
        let full = (1 << prefix) - 1;
        let start = usize::from(self.next()?) & full;
        if start < full { Ok(start) } else { self.long_integer(full) }
    }

    /// The rest of one that is at least `full`.
    fn long_integer(&mut self, full: usize) -> Result<usize, Broken> {
        let mut number = full;
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.next()?);
            number += (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken::Integer)
    }

    /// Writes the text that comes next behind `out`.
    fn text(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let is_huffman = self.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Broken::Cut)?;
        self.rest = rest;
        if is_huffman {
            return huffman::decode(text, out);
        }
        out.extend_from_slice(text);
        Ok(())
    }
}
