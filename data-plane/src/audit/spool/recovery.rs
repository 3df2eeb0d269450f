//! Looks through what earlier boots left: how much of it is sound, and what is missing.
//!
//! Of each boot, every event it counted is in a batch, in a gap that a batch tells of, or lost. Of
//! the lost ones it writes one more batch, without events, that ends the boot: so each is told
//! once, and again only as the same batch.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fastgate::audit::GAPS;
use uuid::Uuid;

use super::{
    Place,
    segment::{Reader, Segment},
    watermark::Watermark,
    write_frame,
};
#[cfg(test)]
use crate::audit::small_disk;
use crate::{
    audit::{
        batch::{Gap, Reason, Sealed},
        encode::{self, Opening},
        tally::Tally,
    },
    identity::Identity,
    private,
};

/// A count beyond this is none: the file that holds it is damaged.
const PLAUSIBLE: u64 = 1 << 48;

/// What there is to look through.
pub(super) struct Recovery {
    pub(super) dir: PathBuf,
    pub(super) identity: Arc<Identity>,
    pub(super) segments: Vec<Segment>,
    pub(super) tallies: Vec<(Uuid, Tally)>,
    /// Up to where each outlet has stored all. The first of them is told what is lost.
    pub(super) marks: Vec<Option<Watermark>>,
    /// The first of the numbers kept free for segments that tell what is lost.
    pub(super) first_free: u64,
}

/// What was found.
#[derive(Default)]
pub(in crate::audit) struct Recovered {
    /// What is to be shipped, in no order.
    pub(super) segments: Vec<Segment>,
    /// Events in it that each outlet has still to get.
    pub(in crate::audit) events: Vec<u64>,
    /// What is lost, with the boot that had it.
    pub(in crate::audit) lost: Vec<(Uuid, Gap)>,
    /// What of it could not be written, as it is to be told.
    pub(super) untold: Vec<LastWords>,
}

/// What is lost of a boot: in a batch, or as many as it takes, that end it.
pub(super) struct LastWords {
    /// Where they are written to.
    segment: Segment,
    batches: Vec<Sealed>,
}

impl Recovery {
    /// Reads every frame there is.
    pub(super) fn run(self) -> Recovered {
        let mut boots: BTreeMap<Uuid, Boot> = BTreeMap::new();
        for segment in &self.segments {
            // What was before its first segment is stored, even if an old watermark knows nothing
            // of it.
            let first = || Boot { end: segment.from, ..Boot::default() };
            boots.entry(segment.boot).or_insert_with(first);
        }
        for (boot, tally) in &self.tallies {
            // Its batches have gone since, all that it had.
            let first = || Boot { end: tally.accounted, ..Boot::default() };
            boots.entry(*boot).or_insert_with(first).tally = Some(*tally);
        }
        if let Some(told) = self.told()
            && let Some(boot) = boots.get_mut(&told.boot)
        {
            boot.end = boot.end.max(told.place.seq);
        }
        let events = vec![0; self.marks.len()];
        let mut recovered = Recovered { events, ..Recovered::default() };
        for segment in &self.segments {
            let boot = boots.entry(segment.boot).or_default();
            match self.look_through(boot, segment, &mut recovered.events) {
                Ok(Some(kept)) => recovered.segments.push(kept),
                Ok(None) => {}
                Err(fault) => {
                    let file = segment.path(&self.dir);
                    tracing::error!(file = %file.display(), %fault, "a file of the spool is not used");
                }
            }
        }
        let ends = boots.iter().zip(self.first_free..);
        for ((id, boot), number) in ends {
            let lost = boot.lost();
            if lost.is_empty() {
                Tally::remove(&self.dir, *id);
                continue;
            }
            let words = self.last_words(*id, boot, &lost, number);
            match words.write(&self.dir) {
                Ok(segment) => recovered.segments.push(segment),
                Err(fault) => {
                    tracing::error!(%fault, "can't tell yet which audit events are lost");
                    self.note_accounted(*id, boot);
                    recovered.untold.push(words);
                }
            }
            recovered.lost.extend(lost.into_iter().map(|gap| (*id, gap)));
        }
        recovered
    }

    /// The watermark of who is told what is lost: what is damaged before it is not.
    fn told(&self) -> Option<Watermark> {
        self.marks.first().copied().flatten()
    }

    /// Up to where every outlet has stored all.
    fn lowest(&self) -> Place {
        let places = self.marks.iter().map(|mark| mark.map(|mark| mark.place).unwrap_or_default());
        places.min().unwrap_or_default()
    }

    /// Notes what is in a segment; `None`: nothing that is still to be stored.
    fn look_through(
        &self,
        boot: &mut Boot,
        segment: &Segment,
        events: &mut [u64],
    ) -> io::Result<Option<Segment>> {
        let path = segment.path(&self.dir);
        let lowest = self.lowest();
        let told = self.told().map_or_else(Place::default, |told| told.place);
        if told.segment < segment.number {
            boot.miss_until(segment.from);
        }
        if lowest.segment > segment.number || segment.len == 0 {
            fs::remove_file(&path)?;
            return Ok(None);
        }
        let is_begun = lowest.segment == segment.number;
        let begin = if is_begun { lowest.offset.min(segment.len) } else { 0 };
        let mut reader = Reader::open(&self.dir, segment, begin)?;
        let mut intact = None;
        while let Some(found) = reader.next(segment.len)? {
            let is_behind = |mark: Place| (mark.segment, mark.offset) < (segment.number, found.end);
            match found.opening() {
                Some(opening) => {
                    for (events, mark) in events.iter_mut().zip(&self.marks) {
                        if is_behind(mark.map(|mark| mark.place).unwrap_or_default()) {
                            *events += u64::from(found.head.events);
                        }
                    }
                    if is_behind(told) {
                        boot.miss_until(found.head.from);
                    }
                    boot.hold(found.head.end(), opening);
                    intact = Some(reader.passed());
                }
                None if is_behind(told) => {
                    boot.damaged_to = boot.damaged_to.max(found.head.end());
                }
                None => {}
            }
        }
        let (whole, passed) = (reader.at(), reader.passed());
        if told.segment <= segment.number {
            boot.passed += passed - intact.unwrap_or(0);
        }
        if passed > 0 {
            tracing::error!(file = %path.display(), bytes = passed, "a file of the spool is damaged");
        }
        if intact.is_none() && passed > 0 {
            // Of another program or version, or beyond help: whoever knows more may look at it.
            fs::rename(&path, path.with_extension("unreadable"))?;
            return Ok(None);
        }
        if whole < segment.len {
            let bytes = segment.len - whole;
            tracing::info!(file = %path.display(), bytes, "cut off a frame that was not written whole");
            private::file().open(&path)?.set_len(whole)?;
        }
        if whole == 0 {
            fs::remove_file(&path)?;
            return Ok(None);
        }
        Ok(Some(Segment { len: whole, ..segment.clone() }))
    }

    /// Has the next start find the same, whatever has become of the boot's batches by then.
    fn note_accounted(&self, id: Uuid, boot: &Boot) {
        if boot.tally.is_some()
            && let Err(fault) = Tally::note_accounted(&self.dir, id, boot.end)
        {
            tracing::error!(%fault, "the next start may tell more audit events to be lost than are");
        }
    }

    fn last_words(&self, id: Uuid, boot: &Boot, lost: &[Gap], number: u64) -> LastWords {
        let first_seq = boot.last_seq(lost);
        let (node_id, environment) = match &boot.opening {
            Some(opening) => (opening.node_id.as_str(), opening.environment.as_str()),
            None => (self.identity.node_id.as_str(), self.identity.environment.as_str()),
        };
        let batches = lost.chunks(GAPS).map(|lost| {
            let encoded = encode::last_words((node_id, id, environment), first_seq, lost);
            Sealed { boot: id, from: first_seq, first_seq, events: 0, encoded }
        });
        let segment = Segment { number, boot: id, from: first_seq, len: 0 };
        LastWords { segment, batches: batches.collect() }
    }
}

impl LastWords {
    /// Writes them to a segment, which is returned. From then on the counts of the boot, which say
    /// the same, are of no use.
    pub(super) fn write(&self, dir: &Path) -> io::Result<Segment> {
        let Self { segment, .. } = self;
        let path = segment.path(dir);
        let written = self.write_to(dir, &path);
        let len = written.inspect_err(|_| drop(fs::remove_file(&path)))?;
        Tally::remove(dir, segment.boot);
        Ok(Segment { len, ..segment.clone() })
    }

    fn write_to(&self, dir: &Path, path: &Path) -> io::Result<u64> {
        let mut file = private::file().truncate(true).open(path)?;
        for batch in &self.batches {
            #[cfg(test)]
            small_disk::take(dir, batch.encoded.len() as u64)?;
            write_frame(&mut file, batch)?;
        }
        // Before the counts go.
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

/// What is found of one boot.
#[derive(Default)]
struct Boot {
    tally: Option<Tally>,
    /// Up to where its events are accounted for.
    end: u64,
    /// Ranges before that of which nothing was found.
    missing: Vec<(u64, u64)>,
    /// What batches tell of as lost.
    told: Vec<(u64, u64)>,
    /// The number of the last batch.
    last: Option<u64>,
    /// Who wrote it.
    opening: Option<Opening>,
    /// Events up to here were on disk, and are damaged where nothing else is known of them.
    damaged_to: u64,
    /// Bytes behind the last sound batch that are no frame.
    passed: u64,
}

impl Boot {
    fn miss_until(&mut self, from: u64) {
        if from > self.end {
            self.missing.push((self.end, from));
            self.end = from;
        }
    }

    fn hold(&mut self, end: u64, opening: Opening) {
        self.end = self.end.max(end);
        self.last = self.last.max(Some(opening.first_seq));
        let told = opening.gaps.iter();
        self.told.extend(told.map(|gap| (gap.first_seq, gap.first_seq.saturating_add(gap.events))));
        self.opening.get_or_insert(opening);
        self.passed = 0;
    }

    /// What no batch holds or tells of.
    fn lost(&self) -> Vec<Gap> {
        let end = self.end;
        let mut damaged = self.missing.clone();
        let mut lost = Vec::new();
        let tally = self.tally.unwrap_or_default();
        let produced = if tally.produced < PLAUSIBLE { tally.produced } else { 0 };
        // Behind the last sound batch: damaged ones, then what never came so far.
        let rest_is_damaged = self.passed > 0;
        let damaged_to =
            if rest_is_damaged { produced.max(self.damaged_to) } else { self.damaged_to };
        if damaged_to > end {
            damaged.push((end, damaged_to));
        }
        lost.extend(subtract(&damaged, &self.told).map(|range| Gap::of(range, Reason::Damaged)));
        let end = end.max(damaged_to);
        if produced > end {
            let dropped = tally.dropped_untold.min(produced - end);
            let ranges = [(end, end + dropped), (end + dropped, produced)];
            let gaps = ranges.into_iter().zip([Reason::Dropped, Reason::Killed]);
            lost.extend(
                gaps.map(|(range, reason)| Gap::of(range, reason)).filter(|gap| gap.events > 0),
            );
        }
        lost
    }

    /// The number of the batch that ends the boot, which no other one has.
    fn last_seq(&self, lost: &[Gap]) -> u64 {
        let ends = lost.iter().map(|gap| gap.first_seq + gap.events);
        let end = ends.fold(self.end, u64::max);
        end.max(self.last.map_or(0, |last| last + 1))
    }
}

/// What of some ranges is in none of the others.
fn subtract(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)> {
    let mut left = ranges.to_vec();
    for (from, to) in others {
        let cut = |(begin, end): (u64, u64)| {
            [(begin, end.min(*from)), (begin.max(*to), end)].into_iter().filter(|(a, b)| a < b)
        };
        left = left.into_iter().flat_map(cut).collect();
    }
    left.into_iter()
}
