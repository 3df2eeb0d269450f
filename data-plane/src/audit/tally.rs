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

/// The counts of one worker, on cache lines of their own: the worker writes the first two with
/// plain stores, the collector the third.
#[repr(C, align(128))]
#[derive(Default, Debug)]
pub(crate) struct Counts {
    produced: Count,
    dropped: Count,
    /// Of those dropped, how many a batch on disk tells of.
    told: Count,
}

const ROW: usize = size_of::<Counts>();

/// A number that is kept thrice, so that a bit that flips on a disk changes nothing. One thread writes
/// it, so that loads and stores do.
#[repr(C)]
#[derive(Default, Debug)]
struct Count([AtomicU64; 3]);

impl Count {
    fn get(&self) -> u64 {
        let Self([first, ..]) = self;
        first.load(Relaxed)
    }

    fn set(&self, number: u64) {
        self.0.iter().for_each(|copy| copy.store(number, Relaxed));
    }

    /// What two of the three say, also where a kill came between their stores.
    fn read([first, second, third]: [u64; 3]) -> u64 {
        if second == third { third } else { first }
    }
}

impl Counts {
    /// Counts in memory alone, for as long as the process lives.
    pub(super) fn in_memory() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.produced.get()
    }

    /// Events lost because there was no room for them.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    pub(super) fn count_produced(&self) {
        self.produced.set(self.produced() + 1);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.set(self.dropped() + 1);
    }

    pub(super) fn tell(&self, dropped: u64) {
        self.told.set(dropped);
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
            let (counts, _) = numbers.as_chunks::<3>();
            let [produced, dropped, told, ..] = counts else { continue };
            let [produced, dropped, told] =
                [produced, dropped, told].map(|copies| Count::read(copies.map(u64::from_ne_bytes)));
            sum.produced = sum.produced.saturating_add(produced);
            let untold = dropped.saturating_sub(told);
            sum.dropped_untold = sum.dropped_untold.saturating_add(untold);
        }
        sum
    }

    /// Leaves what a worker would have: events produced, dropped, and told to be.
    #[cfg(test)]
    pub(super) fn leave(dir: &Path, boot: Uuid, numbers: [u64; 3]) {
        let mut row = numbers.map(|number| [number; 3]).as_flattened().to_vec();
        row.resize(ROW / size_of::<u64>(), 0);
        let bytes: Vec<u8> = row.into_iter().flat_map(u64::to_ne_bytes).collect();
        fs::write(path(dir, boot), bytes).expect("written");
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
    fn a_bit_that_flipped_changes_no_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let boot = Uuid::now_v7();
        let counts = create(dir.path(), boot, 2).expect("mapped");
        for _ in 0..300 {
            counts[0].count_produced();
            counts[1].count_dropped();
        }
        counts[1].tell(200);
        let file = path(dir.path(), boot);
        let sound = fs::read(&file).expect("reads");
        let tally = Tally { produced: 300, dropped_untold: 100 };
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Tally::sum(&bytes), tally, "bit {bit}");
        }
        for (copies, number) in [([8, 7, 7], 7), ([8, 8, 7], 8), ([8, 8, 8], 8)] {
            assert_eq!(Count::read(copies), number, "{copies:?}");
        }
    }

    #[test]
    fn a_damaged_file_counts_what_it_says() {
        for (bytes, produced) in [(&[][..], 0), (&[1; ROW - 1], 0), (&[255; 2 * ROW], u64::MAX)] {
            assert_eq!(Tally::sum(bytes).produced, produced);
        }
    }
}
