//! Batches on disk from when they are made until the control plane and all sinks have them.
//!
//! ```text
//! <state-dir>/audit/
//!     000000000017-<boot>-0.spool      what an earlier boot left, shipped first
//!     000000000018-<boot>-0.spool      this boot's first 64 MiB
//!     000000000019-<boot>-204800.spool written to; 204,800 events of the boot come before it
//!     stored                           up to where the control plane has stored all of it
//!     stored-nats                      the same of a sink
//!     reserve                          room that is given back when the disk is full
//!     <boot>.counts                    what the workers of a boot counted (tally.rs)
//! ```
//!
//! A segment is written to by `write(2)` and never read while the sender keeps up; it goes when
//! all of it is stored, with everyone it is for. What a process wrote is there after its end, however that came. After a
//! power cut what the system had not written back is missing: the last half minute on Linux. One
//! thread has all of this, so that there are no locks; recovery has another one, and what earlier
//! boots left to itself.

mod frame;
mod reading;
mod recovery;
mod reserve;
mod segment;
#[cfg(test)]
mod tests;
mod watermark;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice, Write as _},
    mem,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Buf as _;
use thiserror::Error;
use uuid::Uuid;

use self::{
    frame::{HEAD, Head},
    reading::Reading,
    recovery::{LastWords, Recovery},
    segment::Segment,
    watermark::Watermark,
};
pub(super) use self::{recovery::Recovered, reserve::Reserve};
#[cfg(test)]
use super::small_disk;
use super::{
    batch::{Gap, Sealed},
    outlet::Kind,
    tally::Tally,
};
use crate::{identity::Identity, private};

/// A segment is closed at this size; of a small spool, at an eighth of its limit.
const SEGMENT: u64 = 64 << 20;

/// A closed segment still there after so long is synced, against power cuts. Before that it would
/// be work for nothing, as most are stored and gone in less.
const SYNC_AFTER: Duration = Duration::from_secs(2);

/// A place in the spool. Places are in the order of shipping.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// The number of the segment.
    segment: u64,
    offset: u64,
    /// Events of the boot before it.
    seq: u64,
}

/// The spool of a node, for one thread.
pub(super) struct Spool {
    dir: PathBuf,
    boot: Uuid,
    /// The most bytes its segments may take.
    limit: u64,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// Bytes of all segments.
    bytes: u64,
    /// Beside them, for when the disk is full before that.
    reserve: Reserve,
    next_number: u64,
    /// Events of this boot up to the last one on disk.
    written_to: u64,
    /// The last segment, while it is written to.
    writer: Option<File>,
    /// Of each outlet, in their order.
    readings: Vec<Reading>,
    /// Closed segments that are not synced yet, and since when.
    unsynced: VecDeque<(u64, Instant)>,
    /// Under way: nothing is read before it is over.
    recovery: Option<JoinHandle<Recovered>>,
}

/// Why a batch was not written.
#[derive(Debug, Error)]
pub(super) enum Unwritten {
    #[error("the spool is full")]
    Full,
    #[error("the spool can't be written: {0}")]
    Disk(#[from] io::Error),
}

/// What reading the spool comes to.
#[derive(Debug)]
pub(super) enum Read {
    /// The next batch, and the place behind it.
    Batch(Sealed, Place),
    /// Events of this boot whose batches are damaged.
    Lost(Gap),
}

impl Spool {
    /// The spool in a directory that this process has for itself, for these outlets; the first of
    /// them is told what is lost. What is in it already is looked through on a thread of its own;
    /// where the directory can't be used, writing will say so.
    pub(super) fn open(
        dir: PathBuf,
        identity: &Arc<Identity>,
        limit: u64,
        outlets: &[Kind],
    ) -> Self {
        let tell = |fault: io::Error| tracing::error!(dir = %dir.display(), %fault, "can't look into the spool");
        let made = private::make_dir(&dir);
        let segments = made.and_then(|()| Segment::list(&dir)).map_err(tell).unwrap_or_default();
        let mut tallies = Tally::list(&dir).unwrap_or_default();
        tallies.retain(|(boot, _)| *boot != identity.boot_id);
        // One that nobody moves along any more would keep every segment for ever.
        Kind::ALL
            .into_iter()
            .filter(|kind| !outlets.contains(kind))
            .for_each(|kind| Watermark::remove(&dir, kind));
        let marks: Vec<_> = outlets.iter().map(|kind| Watermark::read(&dir, *kind)).collect();
        let readings = outlets.iter().zip(&marks);
        let readings =
            readings.map(|(kind, mark)| Reading::new(&dir, identity.boot_id, *kind, *mark));
        let readings = readings.collect();
        let marked = marks.iter().flatten().map(|mark| mark.place.segment);
        let first_free = marked.chain(segments.last().map(|last| last.number)).max();
        let first_free = first_free.unwrap_or(0) + 1;
        let bytes = segments.iter().map(|segment| segment.len).sum();
        // Recovery adds one segment for each boot at most, which are to be shipped before ours.
        let next_number = first_free + (segments.len() + tallies.len()) as u64;
        let (dir_of_it, identity_of_it) = (dir.clone(), identity.clone());
        let recovery = Recovery {
            dir: dir_of_it,
            identity: identity_of_it,
            segments,
            tallies,
            marks,
            first_free,
        };
        let recovery = thread::Builder::new().name("recovery".into()).spawn(|| recovery.run());
        let recovery = recovery.map_err(tell).ok();
        Self {
            reserve: Reserve::new(&dir, limit),
            dir,
            boot: identity.boot_id,
            limit,
            segments: VecDeque::new(),
            bytes,
            next_number,
            written_to: 0,
            writer: None,
            readings,
            unsynced: VecDeque::new(),
            recovery,
        }
    }

    /// With a reserve that is held already, if it is.
    pub(super) fn with_reserve(self, reserve: Reserve) -> Self {
        Self { reserve, ..self }
    }

    /// What earlier boots left, once it is looked through; it comes first from then on.
    pub(super) fn recovered(&mut self) -> Option<Recovered> {
        let recovery = self.recovery.take_if(|recovery| recovery.is_finished())?;
        // A panic would be a fault of the program; what it looked through stays for the next start.
        let mut recovered = recovery.join().unwrap_or_default();
        for words in mem::take(&mut recovered.untold) {
            recovered.segments.extend(self.tell(&words));
        }
        recovered.segments.sort_by_key(|segment| segment.number);
        self.bytes = self.segments.iter().chain(&recovered.segments).map(|it| it.len).sum();
        for segment in recovered.segments.drain(..).rev() {
            self.segments.push_front(segment);
        }
        // An outlet that is set no longer may have been all that kept some of them.
        self.release();
        Some(recovered)
    }

    /// Writes what recovery found no room for into that of the reserve.
    fn tell(&mut self, words: &LastWords) -> Option<Segment> {
        let told = match words.write(&self.dir) {
            Err(fault) if is_full(&fault) && self.reserve.give() => words.write(&self.dir),
            told => told,
        };
        // Where it fails the next start tells it.
        told.ok()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most there may be.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is room on the disk for what comes when it is full.
    pub(super) fn has_reserve(&self) -> bool {
        self.reserve.is_held()
    }

    /// Takes that room, if need be of what is stored.
    pub(super) fn hold_reserve(&mut self) -> io::Result<()> {
        match self.reserve.hold() {
            Err(fault) if is_full(&fault) && self.close_if_stored() => self.reserve.hold(),
            held => held,
        }
    }

    /// Writes a batch at the end; returns the place behind it. A full disk gets room by what is
    /// stored, then by the reserve.
    pub(super) fn append(&mut self, batch: &Sealed) -> Result<Place, Unwritten> {
        let len = HEAD as u64 + batch.encoded.len() as u64;
        if self.bytes + len > self.limit {
            self.close_if_stored();
        }
        // An empty one takes any batch: else a large one would wait for ever.
        if self.bytes > 0 && self.bytes + len > self.limit {
            return Err(Unwritten::Full);
        }
        loop {
            match self.write(batch, len) {
                Err(fault)
                    if is_full(&fault) && (self.close_if_stored() || self.reserve.give()) => {}
                written => return Ok(written?),
            }
        }
    }

    fn write(&mut self, batch: &Sealed, len: u64) -> io::Result<Place> {
        if self.tail().is_none_or(|tail| tail.len >= SEGMENT.min(self.limit / 8)) {
            self.begin_segment(batch.from)?;
        }
        let (Some(file), Some(tail)) = (&mut self.writer, self.segments.back_mut()) else {
            return Err(io::Error::other("there is no segment to write to"));
        };
        #[cfg(test)]
        small_disk::take(&self.dir, len)?;
        if let Err(fault) = write_frame(file, batch) {
            // Half a frame must not be in the way of the next one. Where it can't be cut off, that
            // goes into another segment.
            if file.set_len(tail.len).is_err() {
                self.writer = None;
            }
            return Err(fault);
        }
        tail.len += len;
        self.bytes += len;
        self.written_to = batch.end();
        Ok(Place { segment: tail.number, offset: tail.len, seq: batch.end() })
    }

    /// Whether an outlet was passed on all there is.
    pub(super) fn is_read(&self, outlet: usize) -> bool {
        let reading = self.readings.get(outlet);
        self.recovery.is_none() && reading.is_none_or(|it| it.is_at_end(&self.segments))
    }

    /// Notes that a batch was passed on to an outlet when it was written, all before it having been
    /// read.
    pub(super) fn passed_on(&mut self, outlet: usize, place: Place) {
        if let Some(reading) = self.readings.get_mut(outlet) {
            reading.passed_on(place);
        }
    }

    /// Has an outlet get a batch from memory alone, all before it having been read; returns the
    /// place that counts as behind it.
    pub(super) fn pass_unwritten(&mut self, outlet: usize, batch: &Sealed) -> Place {
        let reading = self.readings.get_mut(outlet);
        reading.map(|reading| reading.pass_unwritten(batch.end())).unwrap_or_default()
    }

    /// The next batch that was not read yet for an outlet; `None`: there is none, or it can't be
    /// read now.
    pub(super) fn read(&mut self, outlet: usize) -> Option<Read> {
        if self.recovery.is_some() {
            return None;
        }
        self.readings.get_mut(outlet)?.read(&self.segments, self.written_to)
    }

    /// Notes that an outlet has stored all before a place, and lets go of segments that hold
    /// nothing else for anyone.
    pub(super) fn stored(&mut self, outlet: usize, boot: Uuid, place: Place) {
        if let Some(reading) = self.readings.get_mut(outlet) {
            reading.stored(boot, place);
        }
        self.release();
    }

    /// Notes that an outlet has stored all that could be read of what there is: nothing is kept for
    /// it because it could not.
    pub(super) fn stored_all(&mut self, outlet: usize) {
        if !self.is_read(outlet) {
            return;
        }
        let Some(reading) = self.readings.get_mut(outlet) else { return };
        if reading.passed_over(&self.segments) {
            // Whatever is wrong with the file, another one is not.
            self.close_if_stored();
            self.release();
        }
    }

    /// Syncs what was closed a while ago and is still there, without waiting for it.
    pub(super) fn sync_closed(&mut self, now: Instant) {
        while let Some((number, _)) =
            self.unsynced.pop_front_if(|(_, closed)| now.duration_since(*closed) >= SYNC_AFTER)
        {
            let Some(segment) = self.segments.iter().find(|segment| segment.number == number)
            else {
                continue;
            };
            let (dir, file) = (self.dir.clone(), segment.path(&self.dir));
            let sync =
                move || File::open(file)?.sync_data().and_then(|()| File::open(dir)?.sync_data());
            // It is tried for the power cut that comes next; there is nothing to do where it fails.
            drop(thread::Builder::new().name("sync".into()).spawn(sync));
        }
    }

    /// Ends a boot all of whose events are in the spool: its counts are of no more use, and where
    /// all is stored, nothing is.
    pub(super) fn finish(mut self) {
        Tally::remove(&self.dir, self.boot);
        self.reserve.give();
        if let Some(empty) = self.segments.pop_back_if(|last| last.len == 0) {
            self.writer = None;
            drop(fs::remove_file(empty.path(&self.dir)));
        }
        self.close_if_stored();
        if self.segments.is_empty() && self.recovery.is_none() {
            self.readings.iter_mut().for_each(Reading::forget);
        } else if let Some(tail) = self.tail() {
            drop(File::open(tail.path(&self.dir)).and_then(|file| file.sync_data()));
        }
    }

    /// The segment that is written to.
    fn tail(&self) -> Option<&Segment> {
        self.writer.as_ref().and(self.segments.back())
    }

    fn begin_segment(&mut self, from: u64) -> io::Result<()> {
        if self.writer.take().is_some()
            && let Some(tail) = self.segments.back()
        {
            self.unsynced.push_back((tail.number, Instant::now()));
            // Before the next one, which may find no room.
            self.release();
        }
        let segment = Segment { number: self.next_number, boot: self.boot, from, len: 0 };
        self.next_number += 1;
        let path = segment.path(&self.dir);
        let file = match private::file().create_new(true).append(true).open(&path) {
            // The directory may have been taken away.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                private::make_dir(&self.dir)?;
                private::file().create_new(true).append(true).open(&path)?
            }
            opened => opened?,
        };
        self.segments.push_back(segment);
        self.writer = Some(file);
        Ok(())
    }

    /// Closes the segment that is written to where it holds nothing that is not stored; whether that
    /// made room.
    pub(super) fn close_if_stored(&mut self) -> bool {
        let before = self.bytes;
        // An empty one would come again each time that the disk is tried.
        if self.tail().is_some_and(|tail| tail.len > 0 && self.is_stored(tail)) {
            self.writer = None;
            self.release();
        }
        self.bytes < before
    }

    /// Whether everyone has stored all of a segment.
    fn is_stored(&self, segment: &Segment) -> bool {
        self.readings.iter().all(|reading| reading.is_past(segment))
    }

    fn release(&mut self) {
        while let Some(oldest) = self.segments.front() {
            let is_written = self.writer.is_some() && self.segments.len() == 1;
            if is_written || !self.is_stored(oldest) {
                return;
            }
            let path = oldest.path(&self.dir);
            if let Err(fault) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %fault, "can't remove what is stored");
            }
            // A file that somebody reads takes room although it is gone.
            self.readings.iter_mut().for_each(|reading| reading.let_go(oldest));
            self.bytes = self.bytes.saturating_sub(oldest.len);
            self.segments.pop_front();
        }
    }
}

/// Whether it is room that is missing, on the disk or of what the node may take of it.
fn is_full(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn write_frame(file: &mut File, batch: &Sealed) -> io::Result<()> {
    let head = Head::of(batch).to_bytes();
    let mut rest = head.chain(&*batch.encoded);
    while rest.has_remaining() {
        let mut pieces = [IoSlice::new(&[]), IoSlice::new(&[])];
        let count = rest.chunks_vectored(&mut pieces);
        match file.write_vectored(pieces.get(..count).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest.advance(written),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}
