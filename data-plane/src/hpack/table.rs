//! The lines of a connection that can be referred to: those that were sent last.

use super::MAX_TABLE;

/// What each entry counts beside its text (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// Lines with something that is noted of each. Without one it takes no memory.
pub(super) struct Table<T> {
    /// The oldest first, behind some that are gone.
    entries: Vec<Entry<T>>,
    /// The texts of all of those.
    bytes: Vec<u8>,
    /// How many entries are gone, and how many bytes.
    gone: (usize, usize),
    /// What the others count together.
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
        Self { entries: Vec::new(), bytes: Vec::new(), gone: (0, 0), size: 0, max_size }
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
        let present = self.present();
        let entry = present.get(present.len().checked_sub(nth + 1)?)?;
        Some((entry, entry.text(&self.bytes)))
    }

    /// All entries and their texts, the newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry<T>, &[u8])> {
        self.present().iter().rev().map(|entry| (entry, entry.text(&self.bytes)))
    }

    /// The newest entry that is this line. Few others are as long in both parts.
    pub(super) fn position(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let lengths = (name.len(), value.len());
        self.present().iter().rev().position(|entry| {
            (entry.name_length.into(), entry.value_length.into()) == lengths
                && entry.text(&self.bytes).split_at_checked(name.len()) == Some((name, value))
        })
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
        self.entries.push(Entry {
            start: short(self.bytes.len()),
            name_length: short(name.len()),
            value_length: short(value.len()),
            note,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
    }

    fn present(&self) -> &[Entry<T>] {
        self.entries.get(self.gone.0..).unwrap_or_default()
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.present().first()
        {
            let length = oldest.length();
            self.size -= length + OVERHEAD;
            self.gone.0 += 1;
            self.gone.1 += length;
        }
    }

    /// Throws away what is gone once that is more than half, so that little is moved for it.
    fn tidy(&mut self) {
        let (entries, bytes) = self.gone;
        if entries <= self.entries.len() / 2 && bytes <= self.bytes.len() / 2 {
            return;
        }
        self.gone = (0, 0);
        self.entries.drain(..entries);
        self.bytes.drain(..bytes);
        for entry in &mut self.entries {
            entry.start = entry.start.saturating_sub(u16::try_from(bytes).unwrap_or(u16::MAX));
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
