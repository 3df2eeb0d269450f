//! The lines of a connection that can be referred to: those that were sent last.

use std::{collections::VecDeque, mem};

use super::MAX_TABLE;

/// What each entry counts beside its text (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// Lines with something that is noted of each. Without one it takes no memory.
pub(super) struct Table<T> {
    /// The texts of all entries, the oldest first, behind those of some that are gone.
    bytes: Vec<u8>,
    /// How many bytes those take.
    gone: usize,
    /// The newest first.
    entries: VecDeque<Entry<T>>,
    /// What the entries count together.
    size: usize,
    max_size: usize,
}

/// Where a line stands in the bytes of its table. A table reaches nowhere near 64 KiB.
#[derive(Clone, Copy)]
pub(super) struct Entry<T> {
    pub(super) start: u16,
    pub(super) name_length: u16,
    pub(super) value_length: u16,
    pub(super) note: T,
}

impl<T> Entry<T> {
    /// Name and value without anything between.
    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.start);
        bytes.get(start..start + self.length()).unwrap_or_default()
    }

    /// The name in its text.
    pub(super) fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(..usize::from(self.name_length)).unwrap_or_default()
    }

    fn length(&self) -> usize {
        usize::from(self.name_length) + usize::from(self.value_length)
    }
}

impl<T> Table<T> {
    pub(super) fn new(max_size: usize) -> Self {
        Self { bytes: Vec::new(), gone: 0, entries: VecDeque::new(), size: 0, max_size }
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Entries that don't fit any more are gone.
    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size.min(MAX_TABLE);
        self.shrink_to(self.max_size);
    }

    /// An entry, counted from the newest, and its text.
    pub(super) fn get(&self, nth: usize) -> Option<(&Entry<T>, &[u8])> {
        self.entries.get(nth).map(|entry| (entry, entry.text(&self.bytes)))
    }

    /// All entries and their texts, the newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry<T>, &[u8])> {
        self.entries.iter().map(|entry| (entry, entry.text(&self.bytes)))
    }

    /// The newest entry of which this is noted.
    pub(super) fn position(&self, is_it: impl Fn(&T) -> bool) -> Option<usize> {
        self.entries.iter().position(|entry| is_it(&entry.note))
    }

    /// Puts a line in, in place of the oldest ones if need be. One that is larger than the whole
    /// table leaves nothing in it (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], note: T) {
        let size = name.len() + value.len() + OVERHEAD;
        let Some(room) = self.max_size.checked_sub(size) else {
            self.shrink_to(0);
            return;
        };
        self.shrink_to(room);
        self.tidy();
        let short = |length| u16::try_from(length).unwrap_or(u16::MAX);
        self.entries.push_front(Entry {
            start: short(self.bytes.len()),
            name_length: short(name.len()),
            value_length: short(value.len()),
            note,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.length() + OVERHEAD;
            self.gone += entry.length();
        }
    }

    /// Throws old texts away once they take more than half, so that each byte is moved once.
    fn tidy(&mut self) {
        if self.gone <= self.bytes.len() / 2 {
            return;
        }
        let gone = mem::take(&mut self.gone);
        self.bytes.drain(..gone);
        for entry in &mut self.entries {
            entry.start = entry.start.saturating_sub(u16::try_from(gone).unwrap_or(u16::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(table: &Table<u8>) -> Vec<(String, u8)> {
        let all = (0..).map_while(|nth| table.get(nth));
        all.map(|(entry, text)| (String::from_utf8_lossy(text).into_owned(), entry.note)).collect()
    }

    #[test]
    fn the_oldest_make_room_and_what_is_too_large_empties_it() {
        let mut table = Table::new(2 * OVERHEAD + 6);
        assert_eq!(table.bytes.capacity() + table.entries.capacity(), 0);
        table.insert(b"a", b"1", 1);
        table.insert(b"b", b"22", 2);
        assert_eq!(lines(&table), [("b22".to_owned(), 2), ("a1".to_owned(), 1)]);
        table.insert(b"c", b"33", 3);
        assert_eq!(lines(&table), [("c33".to_owned(), 3), ("b22".to_owned(), 2)]);
        table.insert(b"d", b"444", 4);
        assert_eq!(lines(&table), [("d444".to_owned(), 4)]);
        table.insert(b"", b"", 5);
        assert_eq!(lines(&table), [(String::new(), 5), ("d444".to_owned(), 4)]);
        table.set_max_size(OVERHEAD + 3);
        assert_eq!(lines(&table), [(String::new(), 5)]);
        table.insert(b"e", b"555", 6);
        assert_eq!(lines(&table), []);
        assert_eq!(table.size, 0);
    }

    #[test]
    fn bytes_of_old_texts_are_given_back() {
        let mut table = Table::new(MAX_TABLE);
        for nth in 0..10_000_usize {
            let value = [b'v'; 500];
            table.insert(b"n", &value[..nth * 7 % 500], (nth % 256) as u8);
            assert!(table.bytes.len() <= 2 * MAX_TABLE, "{}", table.bytes.len());
            assert!(table.size <= MAX_TABLE);
        }
        let (entry, text) = table.get(3).expect("several");
        assert_eq!((entry.note, text.len()), ((9_996 % 256) as u8, 1 + 9_996 * 7 % 500));
        let sum: usize = table.entries().map(|(entry, _)| entry.length() + OVERHEAD).sum();
        assert_eq!(sum, table.size);
    }
}
