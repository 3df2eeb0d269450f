//! How far one outlet has read the spool, and up to where it has stored what it read.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    Place, Read,
    frame::Head,
    segment::{Reader, Segment},
    watermark::{Keeper, Watermark},
};
use crate::audit::{
    batch::{Gap, Reason, Sealed},
    outlet::Kind,
};

/// How often a segment that can't be read is tried, a tick apart, before it is passed over.
const TRIES: u32 = 50;

/// The spool as one outlet sees it.
pub(super) struct Reading {
    dir: PathBuf,
    /// The boot that writes to the spool.
    boot: Uuid,
    /// Up to where batches were read, or passed on when they were written.
    cursor: Place,
    /// The same in events of this boot.
    read_to: u64,
    reader: Option<Reader>,
    /// How often in a row the segment under the cursor could not be read.
    tries: u32,
    /// Up to where all is stored.
    stored: Place,
    keeper: Keeper,
}

impl Reading {
    /// From the watermark that an earlier start left, or from the begin of what there is.
    pub(super) fn new(dir: &Path, boot: Uuid, kind: Kind, watermark: Option<Watermark>) -> Self {
        let place = watermark.map_or_else(Place::default, |watermark| watermark.place);
        Self {
            dir: dir.to_owned(),
            boot,
            // Numbers of segments only grow, so it need not be there any more.
            cursor: place,
            read_to: 0,
            reader: None,
            tries: 0,
            stored: place,
            keeper: Keeper::new(kind),
        }
    }

    /// Whether all there is was read or passed on.
    pub(super) fn is_at_end(&self, segments: &VecDeque<Segment>) -> bool {
        self.unread(segments).is_none()
    }

    /// Whether all of a segment is stored.
    pub(super) fn is_past(&self, segment: &Segment) -> bool {
        (self.stored.segment, self.stored.offset) >= (segment.number, segment.len)
    }

    /// Notes that a batch was passed on when it was written, all before it having been read.
    pub(super) fn passed_on(&mut self, place: Place) {
        self.reader = None;
        self.cursor = place;
        self.read_to = place.seq;
    }

    /// Notes that all before this number was passed on, and what is behind the cursor of it is
    /// written nowhere; returns the place that counts as behind it.
    pub(super) fn pass_unwritten(&mut self, seq: u64) -> Place {
        self.passed_on(Place { seq, ..self.cursor });
        self.cursor
    }

    /// Keeps a segment no longer open that is to go.
    pub(super) fn let_go(&mut self, segment: &Segment) {
        if self.cursor.segment <= segment.number {
            self.reader = None;
        }
    }

    /// The next batch that was not read yet; `None`: there is none, or it can't be read now. Of this
    /// boot there are as many events as are written.
    pub(super) fn read(&mut self, segments: &VecDeque<Segment>, written_to: u64) -> Option<Read> {
        while let Some(segment) = self.unread(segments) {
            if segment.number != self.cursor.segment {
                self.reader = None;
                self.cursor = Place { segment: segment.number, offset: 0, seq: segment.from };
            }
            match self.read_from(segment) {
                Ok(Some(read)) => return Some(read),
                Ok(None) => self.cursor.offset = segment.len,
                Err(fault) => {
                    self.reader = None;
                    self.tries += 1;
                    if self.tries < TRIES && fault.kind() != io::ErrorKind::NotFound {
                        return None;
                    }
                    let file = segment.path(&self.dir);
                    tracing::error!(file = %file.display(), %fault, "audit events can't be read");
                    self.cursor.offset = segment.len;
                }
            }
            self.tries = 0;
        }
        // There is no sound batch behind them that would show it.
        self.lose_until(written_to).map(Read::Lost)
    }

    /// Notes that all before a place is stored.
    pub(super) fn stored(&mut self, boot: Uuid, place: Place) {
        self.stored = place;
        // Written before a segment goes, but not waited for: see there.
        if let Err(fault) = self.keeper.write(&self.dir, Watermark { boot, place }) {
            tracing::debug!(%fault, "can't note how far the spool is stored");
        }
    }

    /// Notes that nothing that was passed over can be stored any more, with all before it stored;
    /// whether there was something.
    pub(super) fn passed_over(&mut self, segments: &VecDeque<Segment>) -> bool {
        let place = self.cursor;
        let segment = segments.iter().find(|segment| segment.number == place.segment);
        let Some(segment) = segment.filter(|_| self.stored < place) else { return false };
        self.stored(segment.boot, place);
        true
    }

    /// Takes the watermark away.
    pub(super) fn forget(&mut self) {
        self.keeper.remove(&self.dir);
    }

    /// The segment under the cursor, or the next one if that is read to its end.
    fn unread<'a>(&self, segments: &'a VecDeque<Segment>) -> Option<&'a Segment> {
        let Place { segment, offset, .. } = self.cursor;
        segments.iter().find(|it| match it.number.cmp(&segment) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => it.len > offset,
            std::cmp::Ordering::Greater => it.len > 0,
        })
    }

    /// What of this boot was not read before these events.
    fn lose_until(&mut self, seq: u64) -> Option<Gap> {
        let lost = Gap::of((self.read_to, seq), Reason::Damaged);
        self.read_to = self.read_to.max(seq);
        (lost.events > 0).then_some(lost)
    }

    fn read_from(&mut self, segment: &Segment) -> io::Result<Option<Read>> {
        let Self { dir, cursor, read_to, reader, .. } = self;
        let reader = match reader {
            Some(reader) if reader.at() == cursor.offset => reader,
            _ => reader.insert(Reader::open(dir, segment, cursor.offset)?),
        };
        // What is damaged of an earlier boot was found and told by recovery.
        let is_ours = segment.boot == self.boot;
        while let Some(found) = reader.next(segment.len)? {
            let Head { boot, from, first_seq, events, .. } = found.head;
            if !is_ours && found.opening().is_none() {
                continue;
            }
            let Some(encoded) = found.batch else { continue };
            if is_ours && from > *read_to {
                let events = from - *read_to;
                let lost = Gap { first_seq: *read_to, events, reason: Reason::Damaged };
                // The frame is read once more, when the loss is told.
                *read_to = from;
                self.reader = None;
                return Ok(Some(Read::Lost(lost)));
            }
            if is_ours {
                *read_to = found.head.end();
            }
            let batch = Sealed { boot, from, first_seq, events: events.into(), encoded };
            *cursor = Place { segment: segment.number, offset: found.end, seq: batch.end() };
            return Ok(Some(Read::Batch(batch, *cursor)));
        }
        Ok(None)
    }
}
