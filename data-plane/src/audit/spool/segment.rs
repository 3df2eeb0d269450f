//! One file of the spool, and how it is read whatever became of it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::frame::{HEAD, Head, MARK};
use crate::audit::encode::Opening;

/// A file of frames, all of one boot. Its name says what would be lost with its first bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// Files are numbered in the order their frames are shipped.
    pub(super) number: u64,
    pub(super) boot: Uuid,
    /// Events of the boot before the file, dropped ones included.
    pub(super) from: u64,
    /// Bytes of whole frames, and what is between them.
    pub(super) len: u64,
}

impl Segment {
    const EXTENSION: &str = ".spool";

    /// All there are in a directory, the oldest first; other files are none of ours.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let segment = entry.file_name().to_str().and_then(Self::parse_name);
            if let Some(segment) = segment {
                found.push(Self { len: entry.metadata()?.len(), ..segment });
            }
        }
        found.sort_by_key(|segment| segment.number);
        Ok(found)
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        let Self { number, boot, from, .. } = self;
        dir.join(format!("{number:012}-{}-{from}{}", boot.simple(), Self::EXTENSION))
    }

    fn parse_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(Self::EXTENSION)?.splitn(3, '-');
        let number = parts.next()?.parse().ok()?;
        let boot = Uuid::try_parse(parts.next()?).ok()?;
        let from = parts.next()?.parse().ok()?;
        Some(Self { number, boot, from, len: 0 })
    }
}

/// Reads the frames of a segment one by one, past what is damaged.
pub(super) struct Reader {
    file: File,
    boot: Uuid,
    /// Where the next frame is looked for.
    at: u64,
    /// Bytes that were passed over because no frame begins there.
    passed: u64,
}

/// A frame whose head is sound.
pub(super) struct Found {
    pub(super) head: Head,
    /// `None`: it is damaged, or can't be read.
    pub(super) batch: Option<Bytes>,
    /// Where the frame ends.
    pub(super) end: u64,
}

impl Found {
    /// What its batch says of itself; `None`: it is damaged, or another program or version wrote
    /// it, whose events nobody could read.
    pub(super) fn opening(&self) -> Option<Opening> {
        Opening::decode(self.batch.clone()?).ok()
    }
}

impl Reader {
    /// Reads from an offset on.
    pub(super) fn open(dir: &Path, segment: &Segment, at: u64) -> io::Result<Self> {
        let file = File::open(segment.path(dir))?;
        Ok(Self { file, boot: segment.boot, at, passed: 0 })
    }

    /// Where it stands.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that were passed over because no frame begins there.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// The next frame before `end`; `None`: there is no whole one.
    pub(super) fn next(&mut self, end: u64) -> io::Result<Option<Found>> {
        let head = loop {
            if end.saturating_sub(self.at) < HEAD as u64 {
                return Ok(None);
            }
            if let Some(head) = self.head_at(self.at)? {
                break head;
            }
            if !self.pass_to_mark(end)? {
                return Ok(None);
            }
        };
        let begin = self.at + HEAD as u64;
        let ends_at = begin.saturating_add(head.len.into());
        let mut batch = vec![0; (ends_at.min(end) - begin) as usize];
        let read = self.file.read_exact_at(&mut batch, begin);
        if read.is_ok() && head.is_of(&batch) {
            self.at = ends_at;
            return Ok(Some(Found { head, batch: Some(Bytes::from(batch)), end: ends_at }));
        }
        // Where bytes are missing the next frame begins sooner.
        let next = self.first_head_in(begin, &batch);
        let Some(ends_at) = next.or_else(|| Some(ends_at).filter(|at| *at <= end)) else {
            return Ok(None);
        };
        self.at = ends_at;
        Ok(Some(Found { head, batch: None, end: ends_at }))
    }

    /// The head of a frame there. A text that a client sent may look like one, but for the id of the
    /// boot.
    fn head_at(&self, at: u64) -> io::Result<Option<Head>> {
        let mut bytes = [0; HEAD];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(Head::parse(&bytes).filter(|head| head.boot == self.boot))
    }

    /// Where the first frame begins that has its mark, or a part of it, among these bytes at `begin`.
    fn first_head_in(&self, begin: u64, bytes: &[u8]) -> Option<u64> {
        let may_begin = |at: &usize| {
            let there = bytes.get(*at..).unwrap_or_default();
            MARK.starts_with(there.get(..MARK.len()).unwrap_or(there))
        };
        let mut places = (0..bytes.len()).filter(may_begin).map(|at| begin + at as u64);
        places.find(|at| matches!(self.head_at(*at), Ok(Some(_))))
    }

    /// Goes on to the next place that looks like the begin of a frame; `false`: there is none.
    fn pass_to_mark(&mut self, end: u64) -> io::Result<bool> {
        let begin = self.at;
        let mut piece = vec![0; 64 << 10];
        let mut from = begin + 1;
        while from < end {
            let read = self.file.read_at(&mut piece, from)?;
            let read = piece.get(..read).unwrap_or_default();
            if let Some(at) = read.windows(MARK.len()).position(|four| four == MARK) {
                self.at = from + at as u64;
                self.passed += self.at - begin;
                return Ok(true);
            }
            // A mark may lie across two pieces.
            match read.len().saturating_sub(MARK.len() - 1) {
                0 => break,
                further => from += further as u64,
            }
        }
        self.passed += end - begin;
        self.at = end;
        Ok(false)
    }
}
