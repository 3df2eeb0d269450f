//! The spool on real files, sound and damaged in every way.

mod damage;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use fastgate::{model::Id, node::v1};
use proptest::prelude::*;
use prost::Message as _;
use tempfile::TempDir;

use super::{watermark::Keeper, *};
use crate::audit::{batch::Reason, encode::last_words};

const LIMIT: u64 = 1 << 20;

fn identity() -> Arc<Identity> {
    let id = |text| Id::parse(text).expect("an id");
    Arc::new(Identity::of_this_boot(id("default"), id("n1")))
}

/// A batch of so many events, of which only the number matters here, behind others.
fn batch(boot: Uuid, from: u64, first_seq: u64, events: u64) -> Sealed {
    let dropped = (first_seq > from).then(|| Gap::of((from, first_seq), Reason::Dropped));
    let mut encoded = last_words(("n1", boot, "default"), first_seq, dropped.as_slice()).to_vec();
    // An event with nothing in it.
    (0..events).for_each(|_| encoded.extend([5 << 3 | 2, 0]));
    Sealed { boot, from, first_seq, events, encoded: encoded.into() }
}

/// One after the other, each with this many events, `dropped` before each.
fn batches(boot: Uuid, events: &[u64], dropped: u64) -> Vec<Sealed> {
    let mut from = 0;
    let mut next = |events: &u64| {
        let batch = batch(boot, from, from + dropped, *events);
        from = batch.end();
        batch
    };
    events.iter().map(&mut next).collect()
}

/// A spool whose earlier boots are looked through; what is lost of them.
fn open(dir: &Path, identity: &Arc<Identity>, limit: u64) -> (Spool, Vec<Gap>) {
    let (spool, recovered) = open_for(dir, identity, limit, &[Kind::ControlPlane]);
    (spool, recovered.lost.into_iter().map(|(_, gap)| gap).collect())
}

/// The same for some outlets, with all that was found.
fn open_for(
    dir: &Path,
    identity: &Arc<Identity>,
    limit: u64,
    outlets: &[Kind],
) -> (Spool, Recovered) {
    looked_through(Spool::open(dir.to_owned(), identity, limit, outlets))
}

fn looked_through(mut spool: Spool) -> (Spool, Recovered) {
    let began = Instant::now();
    loop {
        if let Some(recovered) = spool.recovered() {
            return (spool, recovered);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "recovery goes on for ever");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn append_all(spool: &mut Spool, batches: &[Sealed]) -> Vec<Place> {
    batches.iter().map(|batch| spool.append(batch).expect("room")).collect()
}

fn read_all(spool: &mut Spool) -> Vec<(Sealed, Place)> {
    read_all_for(spool, 0)
}

fn read_all_for(spool: &mut Spool, outlet: usize) -> Vec<(Sealed, Place)> {
    std::iter::from_fn(|| match spool.read(outlet)? {
        Read::Batch(batch, place) => Some((batch, place)),
        Read::Lost(gap) => panic!("of this boot: {gap:?}"),
    })
    .collect()
}

/// What the next start makes of a folder: batches of events, and what is lost, as the control
/// plane is told.
fn restart(dir: &Path) -> (Vec<Sealed>, Vec<Gap>) {
    let (mut spool, lost) = open(dir, &identity(), LIMIT);
    let (batches, last): (Vec<_>, Vec<_>) =
        read_all(&mut spool).into_iter().map(|(batch, _)| batch).partition(|b| b.events > 0);
    let told: Vec<_> = last.iter().flat_map(gaps).collect();
    assert_eq!(told, lost, "told as it was found");
    let names: BTreeSet<_> = batches.iter().chain(&last).map(|b| (b.boot, b.first_seq)).collect();
    assert_eq!(names.len(), batches.len() + last.len(), "each batch has a name of its own");
    (batches, lost)
}

/// What a start finds that comes right behind another one which shipped nothing.
fn restart_twice(dir: &Path) -> (Vec<Sealed>, Vec<Gap>) {
    let (mut spool, lost) = open(dir, &identity(), LIMIT);
    assert_eq!(lost, [], "told before");
    let (batches, last): (Vec<_>, Vec<_>) =
        read_all(&mut spool).into_iter().map(|(batch, _)| batch).partition(|b| b.events > 0);
    (batches, last.iter().flat_map(gaps).collect())
}

fn gaps(batch: &Sealed) -> Vec<Gap> {
    let wire = v1::Batch::decode(batch.encoded.clone()).expect("a batch");
    let reason = |name: &str| Reason::ALL.into_iter().find(|it| it.name() == name).expect(name);
    let gaps = wire.gaps.iter();
    gaps.map(|gap| Gap {
        first_seq: gap.first_seq,
        events: gap.events,
        reason: reason(&gap.reason),
    })
    .collect()
}

/// A folder with one segment of a boot that counted `produced` events, and its bytes.
fn one_segment(batches: &[Sealed], produced: u64) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = batches[0].boot;
    let segment = Segment { number: 1, boot, from: batches[0].from, len: 0 };
    let path = segment.path(dir.path());
    let mut file = fs::File::create(&path).expect("made");
    batches.iter().for_each(|batch| write_frame(&mut file, batch).expect("written"));
    count(dir.path(), boot, produced);
    let bytes = fs::read(&path).expect("read");
    (dir, path, bytes)
}

fn count(dir: &Path, boot: Uuid, produced: u64) {
    Tally::remove(dir, boot);
    Tally::leave(dir, boot, [produced, 0, 0]);
}

/// As it was before a restart changed it.
fn reset(dir: &Path, path: &Path, bytes: &[u8], (boot, produced): (Uuid, u64)) {
    for entry in fs::read_dir(dir).expect("a folder") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    fs::write(path, bytes).expect("written");
    count(dir, boot, produced);
}

/// Every event of the boot is in a batch or in a gap, and in one of them.
fn assert_accounted(found: &[Sealed], lost: &[Gap], produced: u64, what: &str) {
    let mut ranges: Vec<_> = found.iter().map(|batch| (batch.from, batch.end())).collect();
    ranges.extend(lost.iter().map(|gap| (gap.first_seq, gap.first_seq + gap.events)));
    ranges.sort();
    let mut at = 0;
    for (from, to) in ranges {
        assert_eq!(from, at, "{what}: {found:?} {lost:?}");
        at = to;
    }
    assert_eq!(at, produced, "{what}: {lost:?}");
}

#[test]
fn what_is_written_is_read_back_byte_for_byte_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, lost) = open(dir.path(), &me, LIMIT);
    assert_eq!((lost, spool.read(0).is_none(), spool.is_read(0)), (vec![], true, true));
    let written = batches(me.boot_id, &[3, 1, 4000, 4096], 2);
    let places = append_all(&mut spool, &written);
    assert!(places.is_sorted() && !spool.is_read(0));
    let read = read_all(&mut spool);
    assert_eq!(read, written.iter().cloned().zip(places).collect::<Vec<_>>());
    assert!(spool.is_read(0));

    // The next start finds it under the boot that wrote it, and what it has to say behind it.
    count(dir.path(), me.boot_id, 9000);
    drop(spool);
    let next = identity();
    let (mut spool, lost) = open(dir.path(), &next, LIMIT);
    let end = written[3].end();
    assert_eq!(lost, [Gap::of((end, 9000), Reason::Killed)]);
    let own = batch(next.boot_id, 0, 0, 7);
    spool.append(&own).expect("room");
    let read: Vec<_> = read_all(&mut spool).into_iter().map(|(batch, _)| batch).collect();
    assert_eq!(read[..4], written[..]);
    assert_eq!((gaps(&read[4]), read[4].boot), (lost, me.boot_id));
    assert_eq!(read[5..], [own]);
}

#[test]
fn what_is_stored_is_not_sent_again_and_its_segments_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    // A segment of a spool of 1 MiB has 128 KiB.
    let written = batches(me.boot_id, &[4096; 60], 0);
    let places = append_all(&mut spool, &written);
    let files = || Segment::list(dir.path()).expect("listed").len();
    assert_eq!(files(), 4);
    let bytes = spool.bytes();
    spool.stored(0, me.boot_id, places[20]);
    assert_eq!((files(), spool.bytes() < bytes), (3, true));
    drop(spool);
    count(dir.path(), me.boot_id, 60 * 4096);
    let (found, lost) = restart(dir.path());
    assert_eq!((found.as_slice(), lost), (&written[21..], vec![]));

    // Without the watermark, or with an old one, whole segments are sent again.
    let old = Watermark { boot: me.boot_id, place: places[0] };
    let file = dir.path().join("stored");
    for watermark in [None, Some(old)] {
        fs::remove_file(&file).expect("removed");
        watermark.inspect(|old| {
            Keeper::new(Kind::ControlPlane).write(dir.path(), *old).expect("written")
        });
        let (found, lost) = restart(dir.path());
        assert_eq!((found.last(), lost), (written.last(), vec![]));
        assert!(found.len() > 39);
        fs::write(&file, "").expect("written");
    }
}

#[test]
fn a_batch_as_large_as_the_spool_is_taken_when_it_is_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    let large = vec![0; LIMIT as usize].into();
    let large = Sealed { encoded: large, ..batch(me.boot_id, 1, 1, 1) };
    let place = spool.append(&batch(me.boot_id, 0, 0, 1)).expect("room");
    assert!(matches!(spool.append(&large), Err(Unwritten::Full)));
    spool.stored(0, me.boot_id, place);
    spool.append(&large).expect("there is nothing else");
}

#[test]
fn an_end_with_all_of_it_stored_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    count(dir.path(), me.boot_id, 5);
    let place = spool.append(&batch(me.boot_id, 0, 0, 5)).expect("room");
    spool.stored(0, me.boot_id, place);
    spool.finish();
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
}

#[test]
fn a_full_spool_takes_nothing_until_a_segment_is_stored() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    let mut places = Vec::new();
    let mut all = batches(me.boot_id, &[4096; 200], 0).into_iter();
    let refused = all.find_map(|batch| match spool.append(&batch) {
        Ok(place) => {
            places.push(place);
            None
        }
        Err(fault) => Some((batch, fault)),
    });
    let (batch, fault) = refused.expect("full");
    assert!(matches!(fault, Unwritten::Full), "{fault}");
    assert!(spool.bytes() <= LIMIT && spool.bytes() > LIMIT - 10_000);
    spool.stored(0, me.boot_id, places[10]);
    assert!(spool.append(&batch).is_err(), "its segment is not stored yet");
    spool.stored(0, me.boot_id, places[20]);
    places.push(spool.append(&batch).expect("room"));
    // All stored: nothing of it is in the way.
    spool.stored(0, me.boot_id, places[places.len() - 1]);
    for batch in all {
        places.push(spool.append(&batch).expect("room"));
        spool.stored(0, me.boot_id, places[places.len() - 1]);
    }
}

/// Files in a folder that are removed and still open.
fn removed_and_open(dir: &Path) -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let targets = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    let is_removed = |target: &PathBuf| target.to_string_lossy().ends_with(" (deleted)");
    targets.filter(|target| target.starts_with(dir)).filter(is_removed).count()
}

#[test]
fn a_full_disk_takes_more_as_soon_as_what_is_on_it_is_stored() {
    const DISK: u64 = 200_000;
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    // Far below its limit, and in one segment.
    let (mut spool, _) = open(dir.path(), &me, 1 << 30);
    small_disk::resize(dir.path(), DISK);
    let mut all = batches(me.boot_id, &[4096; 200], 0).into_iter();
    let mut fill = |spool: &mut Spool, mut next: Option<Sealed>| {
        let mut places = Vec::new();
        loop {
            let batch = next.take().or_else(|| all.next()).expect("never full");
            match spool.append(&batch) {
                Ok(place) => places.push(place),
                Err(Unwritten::Disk(fault)) if fault.kind() == io::ErrorKind::StorageFull => {
                    return (batch, places);
                }
                Err(fault) => panic!("{fault}"),
            }
        }
    };
    let mut refused = None;
    for round in 0..4 {
        let (batch, places) = fill(&mut spool, refused.take());
        assert!(places.len() > 15, "round {round}: {}", places.len());
        // Read from the disk, as by who did not keep up.
        assert_eq!(read_all(&mut spool).len(), places.len());
        spool.stored(0, me.boot_id, places[places.len() - 2]);
        assert!(spool.append(&batch).is_err(), "the last one is not stored yet");
        spool.stored(0, me.boot_id, places[places.len() - 1]);
        refused = Some(batch);
    }
    spool.append(&refused.expect("one")).expect("room");
    assert_eq!(removed_and_open(dir.path()), 0);
}

#[test]
fn a_disk_that_stays_full_is_not_filled_with_empty_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    let mut all = batches(me.boot_id, &[4096; 200], 0).into_iter();
    // The next one begins a segment.
    while spool.append(&all.next().expect("one")).expect("room").offset < LIMIT / 8 {}
    small_disk::resize(dir.path(), 1);
    let batch = all.next().expect("one");
    for _ in 0..5 {
        assert!(spool.hold_reserve().is_err() && spool.append(&batch).is_err());
        assert_eq!(Segment::list(dir.path()).expect("listed").len(), 2);
    }
    spool.finish();
    assert_eq!(Segment::list(dir.path()).expect("listed").len(), 1);
}

#[test]
fn a_reserve_takes_the_batches_that_meet_a_full_disk() {
    const DISK: u64 = 400_000;
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    // A reserve of 64 KiB.
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    small_disk::resize(dir.path(), DISK);
    spool.hold_reserve().expect("room");
    let mut all = batches(me.boot_id, &[4096; 200], 0).into_iter();
    let mut places = Vec::new();
    while spool.has_reserve() {
        places.push(spool.append(&all.next().expect("one")).expect("room"));
    }
    let next = all.next().expect("one");
    places.push(spool.append(&next).expect("what is under way by then has room, too"));
    assert!(spool.hold_reserve().is_err() && !spool.has_reserve());
    spool.stored(0, me.boot_id, places[places.len() - 1]);
    spool.hold_reserve().expect("what is stored makes room");
    assert!(spool.has_reserve());
    // What a killed process held is taken over.
    drop(spool);
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    small_disk::resize(dir.path(), 70_000);
    spool.hold_reserve().expect("it is there");
    spool.finish();
    assert!(fs::read_dir(dir.path()).expect("a folder").count() <= 1, "a watermark at most");
}

#[test]
fn what_is_no_segment_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = Uuid::now_v7();
    let name = |number, from| Segment { number, boot, from, len: 0 }.path(dir.path());
    fs::write(name(1, 0), []).expect("written");
    fs::write(name(2, 0), [b'x'; 10_000]).expect("written");
    fs::write(dir.path().join("notes.txt"), "mine").expect("written");
    fs::write(dir.path().join("1-2-3.spool"), "mine").expect("written");
    fs::write(dir.path().join("stored"), "damaged").expect("written");
    fs::create_dir(name(3, 0)).expect("made");
    let (found, lost) = restart(dir.path());
    assert_eq!((found, lost), (vec![], vec![]));
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    left.sort();
    let mut expected =
        vec![name(2, 0).with_extension("unreadable"), name(3, 0), dir.path().join("1-2-3.spool")];
    expected.extend(["notes.txt", "stored"].map(|name| dir.path().join(name)));
    expected.sort();
    assert_eq!(left, expected);
}

const BOTH: [Kind; 2] = [Kind::ControlPlane, Kind::Nats];

#[test]
fn each_outlet_goes_on_from_where_it_was_and_keeps_what_it_needs() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open_for(dir.path(), &me, LIMIT, &BOTH);
    let written = batches(me.boot_id, &[4096; 60], 0);
    let places = append_all(&mut spool, &written);
    let before = spool.bytes();
    spool.stored(0, me.boot_id, places[40]);
    assert_eq!(spool.bytes(), before, "the other one needs all of it");
    spool.stored(1, me.boot_id, places[20]);
    let between = spool.bytes();
    assert!(between < before);
    count(dir.path(), me.boot_id, 60 * 4096);
    drop(spool);

    let (mut spool, recovered) = open_for(dir.path(), &identity(), LIMIT, &BOTH);
    assert_eq!((recovered.events, recovered.lost), (vec![19 * 4096, 39 * 4096], vec![]));
    let read = |spool: &mut Spool, outlet| {
        read_all_for(spool, outlet).into_iter().map(|(batch, _)| batch).collect::<Vec<_>>()
    };
    assert_eq!(read(&mut spool, 1), written[21..]);
    assert_eq!(read(&mut spool, 0), written[41..]);
    drop(spool);

    // Set no longer, it keeps nothing; set again, it begins with what there is.
    let (spool, recovered) = open_for(dir.path(), &identity(), LIMIT, &BOTH[..1]);
    assert_eq!(recovered.events, [19 * 4096]);
    assert!(spool.bytes() < between);
    drop(spool);
    let (mut spool, recovered) = open_for(dir.path(), &identity(), LIMIT, &BOTH);
    assert_eq!(recovered.events[0], 19 * 4096);
    assert_eq!(read(&mut spool, 0), written[41..]);
    let of_new = read(&mut spool, 1);
    assert!(of_new.len() >= 19 && of_new.ends_with(&written[41..]));
}

#[test]
fn dropped_events_that_no_batch_tells_of_are_no_killed_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = Uuid::now_v7();
    Tally::leave(dir.path(), boot, [100, 30, 10]);
    let (found, lost) = restart(dir.path());
    assert_eq!(found, []);
    assert_eq!(lost, [Gap::of((0, 20), Reason::Dropped), Gap::of((20, 100), Reason::Killed)]);
    assert_eq!(restart_twice(dir.path()).1, lost);
}

/// A folder full with what a boot left that was killed: 200 events in a batch, and 10 in memory.
fn killed_on_a_full_disk() -> (TempDir, Uuid) {
    let written = batches(Uuid::now_v7(), &[200], 0);
    let (dir, ..) = one_segment(&written, 210);
    (dir, written[0].boot)
}

#[test]
fn what_is_lost_is_told_by_the_room_of_the_reserve() {
    let (dir, boot) = killed_on_a_full_disk();
    let mut reserve = Reserve::new(dir.path(), LIMIT);
    reserve.hold().expect("room");
    small_disk::fill_up(dir.path());
    let spool = Spool::open(dir.path().to_owned(), &identity(), LIMIT, &[Kind::ControlPlane]);
    let (mut spool, recovered) = looked_through(spool.with_reserve(reserve));
    let lost = Gap::of((200, 210), Reason::Killed);
    assert_eq!(recovered.lost, [(boot, lost)]);
    let found = read_all(&mut spool);
    assert_eq!((found.len(), gaps(&found[1].0), spool.has_reserve()), (2, vec![lost], false));
    assert_eq!(Tally::list(dir.path()).expect("listed"), []);
}

#[test]
fn what_could_not_be_told_is_told_by_the_next_start_and_no_more() {
    let (dir, _) = killed_on_a_full_disk();
    small_disk::fill_up(dir.path());
    let lost = Gap::of((200, 210), Reason::Killed);
    for batches in [1, 0] {
        let me = identity();
        let (mut spool, found) = open(dir.path(), &me, LIMIT);
        assert_eq!(found, [lost]);
        let read = read_all(&mut spool);
        assert_eq!(read.len(), batches, "no room to tell it");
        for (batch, place) in read {
            spool.stored(0, batch.boot, place);
            // Room is there once that is gone.
            let place = spool.append(&self::batch(me.boot_id, 0, 0, 5)).expect("room");
            spool.stored(0, me.boot_id, place);
        }
        spool.finish();
        assert_eq!(Segment::list(dir.path()).expect("listed"), []);
        small_disk::fill_up(dir.path());
    }
    small_disk::resize(dir.path(), 1 << 20);
    let (found, told) = restart(dir.path());
    assert_eq!((found, told), (vec![], vec![lost]));
}

#[test]
fn a_directory_that_can_t_be_used_is_tried_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let audit = dir.path().join("audit");
    fs::write(&audit, "in the way").expect("written");
    let me = identity();
    let (mut spool, lost) = open(&audit, &me, LIMIT);
    assert_eq!(lost, []);
    let batch = batch(me.boot_id, 0, 0, 1);
    assert!(matches!(spool.append(&batch), Err(Unwritten::Disk(_))));
    fs::remove_file(&audit).expect("removed");
    spool.append(&batch).expect("written");
    assert_eq!(read_all(&mut spool).len(), 1);
}

proptest! {
    /// Whatever a file holds, sound batches are given back and nothing else.
    #[test]
    fn no_bytes_stop_a_start(
        pieces in prop::collection::vec(
            prop_oneof![
                (1u64..5).prop_map(Ok),
                prop::collection::vec(any::<u8>(), 0..80).prop_map(Err),
                Just(Err(frame::MARK.to_vec())),
            ],
            0..8,
        ),
    ) {
        let boot = Uuid::now_v7();
        let (mut bytes, mut written, mut from) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            match piece {
                Ok(events) => {
                    let batch = batch(boot, from, from, events);
                    bytes.extend(Head::of(&batch).to_bytes());
                    bytes.extend(&batch.encoded);
                    from = batch.end();
                    written.push(batch);
                }
                Err(garbage) => bytes.extend(garbage),
            }
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = Segment { number: 1, boot, from: 0, len: 0 }.path(dir.path());
        fs::write(path, bytes).expect("written");
        count(dir.path(), boot, from + 2);
        let (found, lost) = restart(dir.path());
        assert_accounted(&found, &lost, from + 2, "garbage between");
        prop_assert_eq!(found, written);
    }
}
