//! A disk that is full early: a folder whose files take so many bytes and no more, also those that
//! are removed and still open. And one of another file system.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::FsWord;

static SIZES: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

static KINDS: Mutex<BTreeMap<PathBuf, FsWord>> = Mutex::new(BTreeMap::new());

/// From now on files of a folder take no more than this.
pub(super) fn resize(dir: &Path, bytes: u64) {
    held(&SIZES).insert(dir.to_owned(), bytes);
}

/// From now on a folder is full with what is in it.
pub(super) fn fill_up(dir: &Path) {
    resize(dir, used(dir));
}

/// From now on a folder is of a file system of this kind.
pub(super) fn format(dir: &Path, kind: FsWord) {
    held(&KINDS).insert(dir.to_owned(), kind);
}

/// Of what kind its file system is, if it was said.
pub(super) fn kind(dir: &Path) -> Option<FsWord> {
    held(&KINDS).get(dir).copied()
}

/// Whether there is room for so many bytes more.
pub(super) fn take(dir: &Path, bytes: u64) -> io::Result<()> {
    let Some(size) = held(&SIZES).get(dir).copied() else { return Ok(()) };
    if used(dir) + bytes > size {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

fn held<T>(of: &'static Mutex<T>) -> MutexGuard<'static, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn used(dir: &Path) -> u64 {
    let len = |path: PathBuf| fs::metadata(path).map_or(0, |it| it.len());
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let there = entries(dir).map(|entry| len(entry.path())).sum::<u64>();
    let open = entries(Path::new("/proc/self/fd")).map(|entry| entry.path());
    let is_removed = |fd: &PathBuf| {
        let target = fs::read_link(fd).unwrap_or_default();
        target.starts_with(dir) && target.to_string_lossy().ends_with(" (deleted)")
    };
    there + open.filter(is_removed).map(len).sum::<u64>()
}
