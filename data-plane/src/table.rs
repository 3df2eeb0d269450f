//! A hash table for a million small things that is cheap to copy and change.
//!
//! ```text
//! Table -> 128 groups -> 128 shards each -> items, found by a tag of 16 bits
//! ```
//!
//! A clone shares all shards. To change an item of one copies its shard and the two lists above it:
//! some 60 items and 256 pointers at a million items, where a persistent tree would take several
//! times the memory. Each item costs its own size and two bytes, and up to an eighth of slack.

use std::{hint::black_box, sync::Arc};

/// Groups of a table, and shards of a group: a million items are 61 to a shard. A power of two.
const WIDTH: usize = 1 << WIDTH_BITS;
const WIDTH_BITS: u32 = 7;

/// Items by hash. Whoever asks brings the hash and knows which of the items it leads to is meant.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    groups: Vec<Arc<Group<T>>>,
    len: usize,
    /// Items that a shard is given room for at first.
    foreseen: usize,
}

type Group<T> = Vec<Arc<Shard<T>>>;

/// Items next to their tags, in no order: to put one into an order would move half of the others.
#[derive(Clone, Debug)]
struct Shard<T> {
    tags: Vec<u16>,
    items: Vec<T>,
}

/// Where an item is, cut out of its hash.
struct Place {
    group: usize,
    shard: usize,
    tag: u16,
}

impl Place {
    fn of(hash: u64) -> Self {
        // The upper bits, which every hash function spreads well.
        let take = |bits: u32, below: u32| (hash >> (64 - bits - below)) & ((1 << bits) - 1);
        Self {
            group: take(WIDTH_BITS, 0) as usize,
            shard: take(WIDTH_BITS, WIDTH_BITS) as usize,
            tag: take(u16::BITS, 2 * WIDTH_BITS) as u16,
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let shard = Arc::new(Shard { tags: Vec::new(), items: Vec::new() });
        let group = Arc::new(vec![shard; WIDTH]);
        Self { groups: vec![group; WIDTH], len: 0, foreseen: 0 }
    }
}

impl<T: Clone> Table<T> {
    /// An empty one that will hold about so many items: they are moved less as it grows.
    pub(crate) fn foreseeing(len: usize) -> Self {
        Self { foreseen: (len / (WIDTH * WIDTH)).min(MOST_FORESEEN), ..Self::default() }
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The item that `is_meant`, among those the hash may lead to.
    pub(crate) fn find(&self, hash: u64, is_meant: impl FnMut(&T) -> bool) -> Option<&T> {
        let place = Place::of(hash);
        let shard = self.groups.get(place.group)?.get(place.shard)?;
        shard.items.get(shard.position(place.tag, is_meant)?)
    }

    /// Has the processor fetch what leads to these places all together: each is far from the others, and to wait
    /// for one after the other takes longer than all that is then done there.
    pub(crate) fn touch(&self, hashes: impl Iterator<Item = u64>) {
        let tags = hashes.filter_map(|hash| {
            let place = Place::of(hash);
            self.groups.get(place.group)?.get(place.shard)?.tags.last()
        });
        black_box(tags.fold(0, |all, tag| all ^ tag));
    }

    /// Puts an item in, in place of one that `is_old`, which is returned.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        item: T,
        is_old: impl FnMut(&T) -> bool,
    ) -> Option<T> {
        let (place, foreseen) = (Place::of(hash), self.foreseen);
        let shard = self.shard_mut(&place)?;
        if let Some(at) = shard.position(place.tag, is_old) {
            return shard.items.get_mut(at).map(|old| std::mem::replace(old, item));
        }
        shard.push(place.tag, item, foreseen);
        self.len += 1;
        None
    }

    /// Puts an item in that none there is the same as.
    pub(crate) fn add(&mut self, hash: u64, item: T) {
        let (place, foreseen) = (Place::of(hash), self.foreseen);
        if let Some(shard) = self.shard_mut(&place) {
            shard.push(place.tag, item, foreseen);
            self.len += 1;
        }
    }

    /// Takes the item out that `is_meant`.
    pub(crate) fn remove(&mut self, hash: u64, is_meant: impl FnMut(&T) -> bool) -> Option<T> {
        let place = Place::of(hash);
        // Looked for first: what is not there must not cost a copy.
        let shard = self.groups.get(place.group)?.get(place.shard)?;
        let at = shard.position(place.tag, is_meant)?;
        let shard = self.shard_mut(&place)?;
        shard.tags.swap_remove(at);
        let gone = shard.items.swap_remove(at);
        self.len -= 1;
        Some(gone)
    }

    /// All items, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.groups.iter().flat_map(|group| group.iter()).flat_map(|shard| &shard.items)
    }

    fn shard_mut(&mut self, place: &Place) -> Option<&mut Shard<T>> {
        let group = Arc::make_mut(self.groups.get_mut(place.group)?);
        group.get_mut(place.shard).map(Arc::make_mut)
    }
}

impl<T> Shard<T> {
    fn position(&self, tag: u16, mut is_meant: impl FnMut(&T) -> bool) -> Option<usize> {
        let mut meant = |tags: &[u16], from: usize| {
            let items = self.items.iter().skip(from);
            let at = tags.iter().zip(items).position(|(it, item)| *it == tag && is_meant(item));
            at.map(|at| from + at)
        };
        let (many, rest) = self.tags.as_chunks::<AT_ONCE>();
        for (at, tags) in many.iter().enumerate() {
            // Without an end before the last of them it is a few instructions for all.
            if tags.iter().fold(false, |any, it| any | (*it == tag))
                && let Some(at) = meant(tags, at * AT_ONCE)
            {
                return Some(at);
            }
        }
        meant(rest, many.len() * AT_ONCE)
    }

    fn push(&mut self, tag: u16, item: T, foreseen: usize) {
        let len = self.items.len();
        if len == self.items.capacity() {
            // Doubling, as a Vec does by itself, would leave a quarter of all memory unused.
            let more = foreseen.saturating_sub(len).max(len / 8 + 1);
            self.tags.reserve_exact(more);
            self.items.reserve_exact(more);
        }
        self.tags.push(tag);
        self.items.push(item);
    }
}

/// Room is foreseen for no more than two million items: it is another process that said how many.
const MOST_FORESEEN: usize = 128;

/// Tags that are compared together.
const AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn put(table: &mut Table<(u64, u32)>, hash: u64, value: u32) -> Option<u32> {
        table.insert(hash, (hash, value), |(old, _)| *old == hash).map(|(_, value)| value)
    }

    fn get(table: &Table<(u64, u32)>, hash: u64) -> Option<u32> {
        table.find(hash, |(held, _)| *held == hash).map(|(_, value)| *value)
    }

    /// Hashes that often share a shard and a tag, and differ only where no place looks.
    fn hashes() -> impl Strategy<Value = u64> {
        (0_u64..2, 0_u64..2, 0_u64..20, 0_u64..3)
            .prop_map(|(group, shard, tag, rest)| group << 57 | shard << 50 | tag << 34 | rest)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would_and_clones_do_not_change(
            acts in prop::collection::vec((hashes(), prop::option::of(any::<u32>())), 0..200),
        ) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut before = Vec::new();
            for (hash, value) in acts {
                before.push((table.clone(), model.clone()));
                match value {
                    Some(value) => {
                        prop_assert_eq!(put(&mut table, hash, value), model.insert(hash, value));
                    }
                    None => {
                        let gone = table.remove(hash, |(held, _)| *held == hash);
                        prop_assert_eq!(gone.map(|(_, value)| value), model.remove(&hash));
                    }
                }
                prop_assert_eq!(get(&table, hash), model.get(&hash).copied());
            }
            before.push((table, model));
            for (table, model) in before {
                let held: BTreeMap<_, _> = table.iter().copied().collect();
                prop_assert_eq!(table.len(), held.len());
                prop_assert_eq!(held, model);
            }
        }
    }
}
