//! How far the spool is stored with an outlet, kept across restarts: what was stored is not sent
//! again.
//!
//! It is never waited for until the disk has it. An old one, or none, costs that batches are sent
//! again: what gets them knows them by their numbers.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use bytes::{Buf, BufMut};
use uuid::Uuid;

use super::Place;
use crate::{audit::outlet::Kind, private};

const MARK: &[u8] = b"FGS\x01";

/// The place behind the last batch that is stored, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watermark {
    pub(super) boot: Uuid,
    pub(super) place: Place,
}

impl Watermark {
    /// As it was last written of an outlet; `None`: there is none, or it is damaged.
    pub(super) fn read(dir: &Path, kind: Kind) -> Option<Self> {
        let bytes = fs::read(dir.join(name(kind))).ok()?;
        let (mut sound, mut crc) =
            bytes.split_last_chunk::<4>().map(|(all, crc)| (all, &crc[..]))?;
        let is_whole = sound.len() == MARK.len() + 16 + 3 * 8 && sound.starts_with(MARK);
        if !is_whole || crc.get_u32() != crc32fast::hash(sound) {
            return None;
        }
        sound.advance(MARK.len());
        let boot = Uuid::from_u128(sound.get_u128());
        let (segment, offset, seq) = (sound.get_u64(), sound.get_u64(), sound.get_u64());
        Some(Self { boot, place: Place { segment, offset, seq } })
    }

    /// Forgets that of an outlet.
    pub(super) fn remove(dir: &Path, kind: Kind) {
        // One that is left says nothing wrong: numbers of segments only grow.
        drop(fs::remove_file(dir.join(name(kind))));
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.put_slice(self.boot.as_bytes());
        bytes.put_u64(self.place.segment);
        bytes.put_u64(self.place.offset);
        bytes.put_u64(self.place.seq);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::ControlPlane => "stored",
        Kind::File => "stored-file",
        Kind::Nats => "stored-nats",
        Kind::Otlp => "stored-otlp",
    }
}

/// Writes that of an outlet, over the one before.
pub(super) struct Keeper {
    kind: Kind,
    file: Option<File>,
}

impl Keeper {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, file: None }
    }

    pub(super) fn write(&mut self, dir: &Path, watermark: Watermark) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                self.file.insert(private::file().truncate(false).open(dir.join(name(self.kind)))?)
            }
        };
        file.write_all_at(&watermark.to_bytes(), 0)
    }

    pub(super) fn remove(&mut self, dir: &Path) {
        self.file = None;
        Watermark::remove(dir, self.kind);
    }
}
