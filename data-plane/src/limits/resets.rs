//! Buckets that people made full again, so that workers forget what they knew of them: a worker tells
//! a Redis that comes back how full it saw each, and would undo it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Resets that are remembered by name. Of a place that missed more than these everything is forgotten,
/// so that none is undone; what it owed is forgiven then.
const REMEMBERED: usize = 256;

/// The resets of a node.
#[derive(Default)]
pub(super) struct Resets {
    /// How many there were. Written behind the lock, read by workers without it.
    count: AtomicU64,
    recent: Mutex<VecDeque<Arc<str>>>,
}

impl Resets {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes buckets that are full now.
    pub(super) fn note(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = recent.len();
        recent.extend(names);
        let added = recent.len() - before;
        let surplus = recent.len().saturating_sub(REMEMBERED);
        drop(recent.drain(..surplus));
        self.count.fetch_add(added as u64, Ordering::Release);
    }

    /// Whether a bucket was among those after the first `seen`.
    pub(super) fn includes(&self, name: &str, seen: u64) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = usize::try_from(self.count().saturating_sub(seen)).unwrap_or(usize::MAX);
        missed > recent.len() || recent.iter().rev().take(missed).any(|reset| **reset == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_told_by_name_and_once() {
        let resets = Resets::default();
        resets.note(["a".into(), "b".into()]);
        let seen = resets.count();
        assert!(resets.includes("a", 0) && resets.includes("b", 1));
        assert!(!resets.includes("a", 1) && !resets.includes("c", 0));
        assert!(!resets.includes("b", seen));
        resets.note((0..REMEMBERED).map(|number| number.to_string().into()));
        assert!(!resets.includes("a", seen), "not one of those");
        assert!(resets.includes("a", seen - 1), "who knows");
    }
}
