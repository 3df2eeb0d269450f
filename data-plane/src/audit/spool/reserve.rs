//! Room on the disk that is taken while there is some, and given back when there is none: the batch
//! in hand by then, and those of requests under way, are written all the same.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::{Errno, retry_on_intr},
};

#[cfg(test)]
use crate::audit::small_disk;
use crate::private;

/// Two batches, about. Of a small spool it is a sixteenth of its limit, of a small disk a quarter.
const SIZE: u64 = 2 << 20;

/// A file that holds nothing. Its name is that of no segment, so that recovery leaves it alone.
pub(in crate::audit) struct Reserve {
    dir: PathBuf,
    size: u64,
    is_held: bool,
}

impl Reserve {
    /// Beside a spool in `dir` of this limit; not held yet.
    pub(in crate::audit) fn new(dir: &Path, limit: u64) -> Self {
        Self { dir: dir.to_owned(), size: SIZE.min(limit / 16), is_held: false }
    }

    pub(in crate::audit) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes it, where it is not held. What a killed process held is taken over.
    pub(in crate::audit) fn hold(&mut self) -> io::Result<()> {
        if self.is_held {
            return Ok(());
        }
        private::make_dir(&self.dir)?;
        let file = private::file().truncate(true).open(self.path())?;
        let held = self.fill(file);
        if held.is_err() {
            drop(fs::remove_file(self.path()));
        }
        self.is_held = held.is_ok();
        held
    }

    /// Gives it back; whether that made room.
    pub(in crate::audit) fn give(&mut self) -> bool {
        std::mem::take(&mut self.is_held) && fs::remove_file(self.path()).is_ok()
    }

    fn path(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// How large it is on a disk of so many bytes; 0: it has no size of its own, as in memory.
    fn size_on(&self, disk: u64) -> u64 {
        if disk == 0 { self.size } else { self.size.min(disk / 4) }
    }

    fn fill(&self, mut file: File) -> io::Result<()> {
        let disk = statvfs(&self.dir)?;
        let size = self.size_on(disk.f_blocks.saturating_mul(disk.f_frsize));
        #[cfg(test)]
        small_disk::take(&self.dir, size)?;
        match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, size)) {
            // Not every file system can: then it takes a write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all(&vec![0; usize::try_from(size).unwrap_or(0)])
            }
            done => Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_a_size_is_no_small_one() {
        let reserve = Reserve::new(Path::new("none"), 1 << 30);
        for (disk, size) in [(0, SIZE), (1 << 20, 1 << 18), (1 << 30, SIZE)] {
            assert_eq!(reserve.size_on(disk), size, "{disk}");
        }
    }
}
