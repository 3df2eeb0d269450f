//! What damaged files give back, and what is told of the rest.

use super::*;

#[test]
fn a_file_cut_at_any_byte_gives_back_all_before_the_cut() {
    let written = batches(Uuid::now_v7(), &[2, 3, 1], 1);
    let (dir, path, bytes) = one_segment(&written, 12);
    let boot = written[0].boot;
    let ends: Vec<_> = written
        .iter()
        .scan(0, |end, batch| {
            *end += HEAD + batch.encoded.len();
            Some(*end)
        })
        .collect();
    for cut in 0..bytes.len() {
        reset(dir.path(), &path, &bytes[..cut], (boot, 12));
        let (found, lost) = restart(dir.path());
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(found, written[..whole], "cut at {cut}");
        assert_accounted(&found, &lost, 12, &format!("cut at {cut}"));
        assert!(lost.iter().all(|gap| gap.reason == Reason::Killed), "cut at {cut}: {lost:?}");
        // A second start finds nothing new.
        assert_eq!(restart_twice(dir.path()), (found, lost), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_its_own_batch_alone() {
    // Most of the time goes into syncing what recovery writes: side by side it is waited for once.
    std::thread::scope(|scope| {
        (0..8).for_each(|bit| drop(scope.spawn(move || flip_in_every_byte(1 << bit))));
    });
}

fn flip_in_every_byte(bit: u8) {
    let written = batches(Uuid::now_v7(), &[2, 3, 1], 1);
    let (dir, path, bytes) = one_segment(&written, 9);
    let boot = written[0].boot;
    let mut begin = 0;
    for (at, batch) in written.iter().enumerate() {
        let end = begin + HEAD + batch.encoded.len();
        for byte in begin..end {
            let mut bad = bytes.clone();
            bad[byte] ^= bit;
            reset(dir.path(), &path, &bad, (boot, 9));
            let what = format!("bit {bit:#x} of byte {byte}");
            let (found, lost) = restart(dir.path());
            let mut others = written.clone();
            others.remove(at);
            assert_eq!(found, others, "{what}");
            assert_eq!(lost, [Gap::of((batch.from, batch.end()), Reason::Damaged)], "{what}");
            if byte % 8 == 0 {
                assert_eq!(restart_twice(dir.path()), (found, lost), "{what}");
            }
        }
        begin = end;
    }
}

#[test]
fn damage_of_what_the_control_plane_has_is_not_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open_for(dir.path(), &me, LIMIT, &BOTH);
    let written = batches(me.boot_id, &[5, 6, 7, 8], 0);
    let places = append_all(&mut spool, &written);
    spool.stored(0, me.boot_id, places[1]);
    count(dir.path(), me.boot_id, 26);
    drop(spool);
    let path = Segment::list(dir.path()).expect("listed")[0].path(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    for frame in [0, 2] {
        bytes[places[frame].offset as usize - 1] ^= 1;
    }
    fs::write(&path, bytes).expect("written");
    let (mut spool, recovered) = open_for(dir.path(), &identity(), LIMIT, &BOTH);
    let lost: Vec<_> = recovered.lost.into_iter().map(|(_, gap)| gap).collect();
    assert_eq!(lost, [Gap::of((11, 18), Reason::Damaged)], "but what is behind that is");
    assert_eq!(recovered.events, [8, 14]);
    let mut found: Vec<_> = read_all_for(&mut spool, 1).into_iter().map(|(it, _)| it).collect();
    assert_eq!(found.pop().map(|last| gaps(&last)), Some(lost));
    assert_eq!(found, [written[1].clone(), written[3].clone()]);
}

#[test]
fn a_missing_segment_is_a_gap_of_its_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    let written = batches(me.boot_id, &[4096; 60], 0);
    append_all(&mut spool, &written);
    drop(spool);
    let segments = Segment::list(dir.path()).expect("listed");
    fs::remove_file(segments[1].path(dir.path())).expect("removed");
    let (_, lost) = restart(dir.path());
    assert_eq!(lost, [Gap::of((segments[1].from, segments[2].from), Reason::Damaged)]);
}

#[test]
fn damage_of_this_boot_is_found_when_it_is_read_and_told_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open(dir.path(), &me, LIMIT);
    let written = batches(me.boot_id, &[5, 6, 7], 0);
    append_all(&mut spool, &written);
    let path = Segment::list(dir.path()).expect("listed")[0].path(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    bytes[HEAD + written[0].encoded.len()] ^= 1;
    fs::write(&path, bytes).expect("written");
    let read: Vec<_> = std::iter::from_fn(|| spool.read(0)).collect();
    let [Read::Batch(first, _), Read::Lost(gap), Read::Batch(third, _)] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!((first, third), (&written[0], &written[2]));
    assert_eq!(*gap, Gap::of((5, 11), Reason::Damaged));

    // A batch on disk tells of it by the time the process is killed.
    let encoded = last_words(("n1", me.boot_id, "default"), 18, &[*gap]);
    let telling = Sealed { boot: me.boot_id, from: 18, first_seq: 18, events: 0, encoded };
    spool.append(&telling).expect("room");
    count(dir.path(), me.boot_id, 20);
    drop(spool);
    let (_, lost) = open(dir.path(), &identity(), LIMIT);
    assert_eq!(lost, [Gap::of((18, 20), Reason::Killed)]);
}

#[test]
fn damage_behind_the_last_sound_batch_is_told_and_kept_for_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let me = identity();
    let (mut spool, _) = open_for(dir.path(), &me, LIMIT, &BOTH);
    let mut written = batches(me.boot_id, &[5, 6, 7, 8], 0);
    let next = written.pop().expect("one");
    append_all(&mut spool, &written);
    let path = Segment::list(dir.path()).expect("listed")[0].path(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    *bytes.last_mut().expect("some") ^= 1;
    fs::write(&path, bytes).expect("written");
    for outlet in 0..2 {
        let read: Vec<_> = std::iter::from_fn(|| spool.read(outlet)).collect();
        let [Read::Batch(..), Read::Batch(_, place), Read::Lost(gap)] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!((*gap, spool.is_read(outlet)), (Gap::of((11, 18), Reason::Damaged), true));
        spool.stored(outlet, me.boot_id, *place);
        assert!(spool.bytes() > 0);
        spool.stored_all(outlet);
    }
    assert_eq!(spool.bytes(), 0);

    // Files that are gone are no different; what is written next is found where it was written.
    let place = spool.append(&next).expect("room");
    let path = Segment::list(dir.path()).expect("listed")[0].path(dir.path());
    fs::remove_file(path).expect("removed");
    for outlet in 0..2 {
        let read: Vec<_> = std::iter::from_fn(|| spool.read(outlet)).collect();
        let [Read::Lost(gap)] = &read[..] else { panic!("{read:?}") };
        assert_eq!(*gap, Gap::of((18, 26), Reason::Damaged));
        spool.stored_all(outlet);
    }
    assert_eq!(spool.bytes(), 0);
    let last = batch(me.boot_id, 26, 26, 1);
    assert!(spool.append(&last).expect("room") > place);
    assert_eq!(read_all(&mut spool).len(), 1);
}

#[test]
fn a_sound_frame_nobody_can_read_costs_itself_alone() {
    let mut written = batches(Uuid::now_v7(), &[2, 3, 1], 1);
    // A field of a type that protobuf does not have.
    written[1].encoded = vec![7; 20].into();
    let (dir, ..) = one_segment(&written, 9);
    let lost = Gap::of((written[1].from, written[1].end()), Reason::Damaged);
    let (found, told) = restart(dir.path());
    assert_eq!((found, told), (vec![written[0].clone(), written[2].clone()], vec![lost]));
}

#[test]
fn bytes_taken_out_cost_their_own_batch_alone() {
    let written = batches(Uuid::now_v7(), &[2, 3, 1], 1);
    let (dir, path, bytes) = one_segment(&written, 9);
    let boot = written[0].boot;
    let mut begin = 0;
    for (at, batch) in written.iter().enumerate() {
        let end = begin + HEAD + batch.encoded.len();
        for (first, count) in (begin..end).flat_map(|first| [1, 2, 3, 4, 40].map(|n| (first, n))) {
            let mut bad = bytes.clone();
            bad.drain(first..end.min(first + count));
            reset(dir.path(), &path, &bad, (boot, 9));
            let what = format!("{count} bytes from {first} on");
            let (found, lost) = restart(dir.path());
            let mut others = written.clone();
            others.remove(at);
            assert_eq!(found, others, "{what}");
            let [gap] = &lost[..] else { panic!("{what}: {lost:?}") };
            // At the end of a file it is as if it had not been written whole.
            let reason = if end == bytes.len() { gap.reason } else { Reason::Damaged };
            assert_eq!(*gap, Gap::of((batch.from, batch.end()), reason), "{what}");
        }
        begin = end;
    }
}
