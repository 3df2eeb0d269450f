//! Counts of events that outlive the process, so that the next one knows what a kill took.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    ptr, slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use uuid::Uuid;

use crate::private;

/// The counts of one worker, on a cache line of their own: the worker writes the first two with
/// plain stores, the collector the third.
#[repr(C, align(64))]
#[derive(Default, Debug)]
pub(crate) struct Counts {
    produced: AtomicU64,
    dropped: AtomicU64,
    /// Of those dropped, how many a batch on disk tells of.
    told: AtomicU64,
}

const ROW: usize = size_of::<Counts>();

impl Counts {
    /// Counts in memory alone, for as long as the process lives.
    pub(super) fn in_memory() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.produced.load(Relaxed)
    }

    /// Events lost because there was no room for them.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    // Each count has one thread that writes it, so that loads and stores do.

    pub(super) fn count_produced(&self) {
        self.produced.store(self.produced() + 1, Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.store(self.dropped() + 1, Relaxed);
    }

    pub(super) fn tell(&self, dropped: u64) {
        self.told.store(dropped, Relaxed);
    }
}

/// Counts of so many workers in a file of `dir`, as the next start finds them.
pub(super) fn create(dir: &Path, boot: Uuid, workers: usize) -> io::Result<&'static [Counts]> {
    let len = ROW * workers;
    private::make_dir(dir)?;
    let mut file = private::file().read(true).create_new(true).open(path(dir, boot))?;
    // In full, not as a hole: a store that found no room on the disk would end the process.
    file.write_all(&vec![0; len])?;
    map(&file, workers)
}

/// The file's bytes as counts, for as long as the process lives.
#[expect(unsafe_code, reason = "memory that outlives the process is asked of the system")]
fn map(file: &File, workers: usize) -> io::Result<&'static [Counts]> {
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the system picks an address that is free, and gives whole pages, so it is aligned
    // for `Counts`. The file was just made with as many bytes; nobody else cuts it, for it is made
    // anew for this boot, for its user alone, in a directory that this process has locked. Any
    // bytes are valid `Counts`, all access is atomic, and it is never unmapped.
    unsafe {
        let at = mmap(ptr::null_mut(), ROW * workers, both, MapFlags::SHARED, file, 0)?;
        Ok(slice::from_raw_parts(at.cast(), workers))
    }
}

/// What a boot that is over had counted, over all its workers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    pub(super) produced: u64,
    /// Dropped without a batch on disk that tells of it.
    pub(super) dropped_untold: u64,
}

const EXTENSION: &str = ".counts";

impl Tally {
    /// Those of all boots there are in a directory.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<(Uuid, Self)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let boot = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
            if let Some(boot) = boot.and_then(|boot| Uuid::try_parse(boot).ok()) {
                found.push((boot, Self::sum(&fs::read(dir.join(&name))?)));
            }
        }
        Ok(found)
    }

    fn sum(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        for row in bytes.as_chunks::<ROW>().0 {
            let (numbers, _) = row.as_chunks::<8>();
            let [produced, dropped, told, ..] = numbers else { continue };
            let [produced, dropped, told] =
                [produced, dropped, told].map(|n| u64::from_ne_bytes(*n));
            sum.produced = sum.produced.saturating_add(produced);
            let untold = dropped.saturating_sub(told);
            sum.dropped_untold = sum.dropped_untold.saturating_add(untold);
        }
        sum
    }

    /// Forgets that of a boot.
    pub(super) fn remove(dir: &Path, boot: Uuid) {
        // Where it stays, the next start finds that it has nothing new to say.
        drop(fs::remove_file(path(dir, boot)));
    }
}

fn path(dir: &Path, boot: Uuid) -> PathBuf {
    dir.join(format!("{}{EXTENSION}", boot.simple()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_whoever_comes_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let boot = Uuid::now_v7();
        let counts = create(dir.path(), boot, 2).expect("mapped");
        for _ in 0..3 {
            counts[0].count_produced();
            counts[1].count_produced();
            counts[1].count_dropped();
        }
        counts[1].tell(2);
        let found = Tally::list(dir.path()).expect("listed");
        assert_eq!(found, [(boot, Tally { produced: 6, dropped_untold: 1 })]);
        Tally::remove(dir.path(), boot);
        assert_eq!(Tally::list(dir.path()).expect("listed"), []);
    }

    #[test]
    fn a_damaged_file_counts_what_it_says() {
        for (bytes, produced) in [(&[][..], 0), (&[1; ROW - 1], 0), (&[255; 2 * ROW], u64::MAX)] {
            assert_eq!(Tally::sum(bytes).produced, produced);
        }
    }
}
