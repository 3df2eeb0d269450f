//! Counts of events that outlive the process, so that the next one knows what a kill took.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    mem::offset_of,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    ptr, slice,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rustix::{
    fs::{FsWord, fstatfs},
    mm::{MapFlags, ProtFlags, mmap},
};
use uuid::Uuid;

#[cfg(test)]
use super::small_disk;
use crate::private;

/// The counts of one worker: in memory alone until there is a file for them.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    memory: Row,
    file: OnceLock<InFile>,
}

/// The counts of one worker, on cache lines of their own: the worker writes the first two with
/// plain stores, the collector the third.
#[repr(C, align(128))]
#[derive(Default, Debug)]
struct Row {
    produced: Count,
    dropped: Count,
    /// Of those dropped, how many a batch on disk tells of.
    told: Count,
    /// In the first row, and not written by this boot: up to which of its events batches account
    /// for all. Nobody could tell what became of the rest.
    accounted: Count,
}

/// Where a worker counts from when there is a file.
#[derive(Debug)]
struct InFile {
    now: &'static Row,
    /// What it had counted in memory before, written by the collector.
    before: &'static Row,
}

const ROW: usize = size_of::<Row>();

/// File systems that write what changes to another place on the disk, where there may be no room.
/// `FS_NOCOW_FL` is no help: btrfs of older kernels asks for room for a mapped page all the same, and
/// that of any for what it notes of the file.
const COPY_ON_WRITE: [FsWord; 3] = [
    0x9123_683e, // btrfs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
];

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

    fn add_one(&self) {
        self.set(self.get() + 1);
    }

    /// What two of the three say, also where a kill came between their stores.
    fn read([first, second, third]: [u64; 3]) -> u64 {
        if second == third { third } else { first }
    }
}

impl Counts {
    /// Of one worker, for as long as the process lives.
    pub(super) fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Events recorded, dropped ones included.
    pub(crate) fn produced(&self) -> u64 {
        self.sum(|row| &row.produced)
    }

    /// Events lost because there was no room for them.
    pub(crate) fn dropped(&self) -> u64 {
        self.sum(|row| &row.dropped)
    }

    pub(super) fn count_produced(&self) {
        self.row().produced.add_one();
    }

    pub(super) fn count_dropped(&self) {
        self.row().dropped.add_one();
    }

    /// Notes of how many dropped ones batches on disk tell.
    pub(super) fn tell(&self, dropped: u64) {
        let before = self.memory.dropped.get();
        self.memory.told.set(dropped.min(before));
        if let Some(file) = self.file.get() {
            file.now.told.set(dropped.saturating_sub(before));
        }
        self.settle();
    }

    /// Brings the file up to date with what was counted in memory: a worker may have been about to
    /// count there when it was made.
    pub(super) fn settle(&self) {
        if let Some(InFile { before, .. }) = self.file.get() {
            before.follow(&self.memory);
        }
    }

    fn row(&self) -> &Row {
        self.file.get().map_or(&self.memory, |file| file.now)
    }

    fn sum(&self, of: impl Fn(&Row) -> &Count) -> u64 {
        let in_file = self.file.get().map_or(0, |file| of(file.now).get());
        of(&self.memory).get() + in_file
    }
}

impl Row {
    fn follow(&self, other: &Self) {
        let Self { produced, dropped, told, accounted: _ } = other;
        for (to, from) in [(&self.produced, produced), (&self.dropped, dropped), (&self.told, told)]
        {
            // A store would have the system write the page to the disk once more.
            if to.get() != from.get() {
                to.set(from.get());
            }
        }
    }
}

/// Has workers count in a file of `dir`, as the next start finds it.
///
/// # Errors
/// Of the kind `Unsupported` where it is no use to try again.
pub(super) fn keep_in(dir: &Path, boot: Uuid, counts: &[&'static Counts]) -> io::Result<()> {
    let path = path(dir, boot);
    private::make_dir(dir)?;
    let file = private::file().read(true).create_new(true).open(&path)?;
    let rows = fill(dir, file, 2 * counts.len()).inspect_err(|_| drop(fs::remove_file(&path)))?;
    let (now, before) = rows.split_at(counts.len());
    for (counts, (now, before)) in counts.iter().zip(now.iter().zip(before)) {
        before.follow(&counts.memory);
        drop(counts.file.set(InFile { now, before }));
    }
    Ok(())
}

#[cfg_attr(not(test), expect(unused_variables, reason = "tests have disks that are full"))]
fn fill(dir: &Path, mut file: File, rows: usize) -> io::Result<&'static [Row]> {
    let len = ROW * rows;
    let kind = fstatfs(&file)?.f_type;
    #[cfg(test)]
    let kind = small_disk::kind(dir).unwrap_or(kind);
    #[cfg(test)]
    small_disk::take(dir, len as u64)?;
    // A store that found no room on the disk would end the process: so the file is written in full,
    // not as a hole, and where it stays in its place.
    if COPY_ON_WRITE.contains(&kind) {
        let why = "a full disk of this file system would end the process if it counted there";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    file.write_all(&vec![0; len])?;
    map(&file, rows)
}

/// The file's bytes as counts, for as long as the process lives.
#[expect(unsafe_code, reason = "memory that outlives the process is asked of the system")]
fn map(file: &File, rows: usize) -> io::Result<&'static [Row]> {
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the system picks an address that is free, and gives whole pages, so it is aligned
    // for `Row`. The file was just made with as many bytes; nobody else cuts it, for it is made
    // anew for this boot, for its user alone, in a directory that this process has locked. Any
    // bytes are a valid `Row`, all access is atomic, and it is never unmapped.
    unsafe {
        let at = mmap(ptr::null_mut(), ROW * rows, both, MapFlags::SHARED, file, 0)?;
        Ok(slice::from_raw_parts(at.cast(), rows))
    }
}

/// What a boot that is over had counted, over all its workers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    pub(super) produced: u64,
    /// Dropped without a batch on disk that tells of it.
    pub(super) dropped_untold: u64,
    /// Up to here its events are accounted for, as a later start noted.
    pub(super) accounted: u64,
}

const EXTENSION: &str = ".counts";

impl Tally {
    /// Those of all boots there are in a directory. One that can't be read says nothing: what the
    /// boot had on disk is shipped all the same.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<(Uuid, Self)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let boot = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
            if let Some(boot) = boot.and_then(|boot| Uuid::try_parse(boot).ok()) {
                let bytes = fs::read(dir.join(&name)).unwrap_or_else(|fault| {
                    tracing::error!(%boot, %fault, "can't read what an earlier start counted: what a kill took of it is not known");
                    Vec::new()
                });
                found.push((boot, Self::sum(&bytes)));
            }
        }
        Ok(found)
    }

    fn sum(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        for row in bytes.as_chunks::<ROW>().0 {
            let (numbers, _) = row.as_chunks::<8>();
            let (counts, _) = numbers.as_chunks::<3>();
            let [produced, dropped, told, accounted, ..] = counts else { continue };
            let [produced, dropped, told, accounted] = [produced, dropped, told, accounted]
                .map(|copies| Count::read(copies.map(u64::from_ne_bytes)));
            sum.produced = sum.produced.saturating_add(produced);
            let untold = dropped.saturating_sub(told);
            sum.dropped_untold = sum.dropped_untold.saturating_add(untold);
            sum.accounted = sum.accounted.max(accounted);
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

    /// Notes in that of a boot up to which of its events batches account for all: the batches may go
    /// before it is told what became of the others. Takes no room on the disk.
    pub(super) fn note_accounted(dir: &Path, boot: Uuid, end: u64) -> io::Result<()> {
        let copies = [end.to_ne_bytes(); 3];
        let file = File::options().write(true).open(path(dir, boot))?;
        file.write_all_at(copies.as_flattened(), offset_of!(Row, accounted) as u64)
    }

    /// Forgets that of a boot, all of whose events are told of.
    pub(super) fn remove(dir: &Path, boot: Uuid) {
        let path = path(dir, boot);
        if fs::remove_file(&path).is_err_and(|fault| fault.kind() != io::ErrorKind::NotFound) {
            // As it is, it would have the next start tell once more what became of them.
            drop(File::options().write(true).truncate(true).open(path));
        }
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
        let counts = [Counts::new(), Counts::new()];
        keep_in(dir.path(), boot, &counts).expect("mapped");
        for _ in 0..3 {
            counts[0].count_produced();
            counts[1].count_produced();
            counts[1].count_dropped();
        }
        counts[1].tell(2);
        let found = Tally::list(dir.path()).expect("listed");
        let mut tally = Tally { produced: 6, dropped_untold: 1, accounted: 0 };
        assert_eq!(found, [(boot, tally)]);
        Tally::note_accounted(dir.path(), boot, 4).expect("noted");
        tally.accounted = 4;
        assert_eq!(Tally::list(dir.path()).expect("listed"), [(boot, tally)]);
        // One that can't be read is in nobody's way.
        fs::create_dir(path(dir.path(), Uuid::nil())).expect("made");
        let found = Tally::list(dir.path()).expect("listed");
        assert!(found.contains(&(boot, tally)) && found.len() == 2, "{found:?}");
        fs::remove_dir(path(dir.path(), Uuid::nil())).expect("removed");
        Tally::remove(dir.path(), boot);
        assert_eq!(Tally::list(dir.path()).expect("listed"), []);
    }

    #[test]
    fn what_was_counted_before_there_was_a_file_is_in_it_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (boot, counts) = (Uuid::now_v7(), Counts::new());
        small_disk::resize(dir.path(), 100);
        let fault = keep_in(dir.path(), boot, &[counts]).expect_err("full");
        assert_eq!(fault.kind(), io::ErrorKind::StorageFull);
        assert_eq!(Tally::list(dir.path()).expect("listed"), [], "no file that says nothing");
        (0..5).for_each(|_| counts.count_produced());
        (0..3).for_each(|_| counts.count_dropped());
        counts.tell(2);
        small_disk::resize(dir.path(), 10_000);
        keep_in(dir.path(), boot, &[counts]).expect("mapped");
        let tally = || {
            let (_, tally) = Tally::list(dir.path()).expect("listed")[0];
            (tally.produced, tally.dropped_untold)
        };
        assert_eq!(tally(), (5, 1));
        counts.count_produced();
        counts.count_dropped();
        // By a worker that had looked for the file before it was there.
        counts.memory.produced.add_one();
        counts.settle();
        assert_eq!((counts.produced(), counts.dropped(), tally()), (7, 4, (7, 2)));
        counts.tell(4);
        assert_eq!(tally(), (7, 0));
    }

    #[test]
    fn nothing_is_counted_in_a_file_that_may_move_on_a_full_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let (boot, counts) = (Uuid::now_v7(), Counts::new());
        small_disk::format(dir.path(), COPY_ON_WRITE[0]);
        let fault = keep_in(dir.path(), boot, &[counts]).expect_err("refused");
        assert_eq!(fault.kind(), io::ErrorKind::Unsupported);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        counts.count_produced();
        assert_eq!(counts.produced(), 1);
    }

    #[test]
    fn a_bit_that_flipped_changes_no_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let boot = Uuid::now_v7();
        let counts = [Counts::new(), Counts::new()];
        keep_in(dir.path(), boot, &counts).expect("mapped");
        for _ in 0..300 {
            counts[0].count_produced();
            counts[1].count_dropped();
        }
        counts[1].tell(200);
        let file = path(dir.path(), boot);
        let sound = fs::read(&file).expect("reads");
        let tally = Tally { produced: 300, dropped_untold: 100, accounted: 0 };
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
