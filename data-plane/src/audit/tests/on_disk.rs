//! Events that wait in the spool.

use super::*;
use crate::audit::{small_disk, tally::Tally};

#[tokio::test]
async fn a_spool_holds_what_is_not_stored_and_is_gone_when_all_is() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let dir = tempfile::tempdir().expect("a folder");
    let spool = dir.path().join("audit");
    let mut shipper = shipper_on_disk(address, &spool, 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(20_000));
    let ledger = shipper.ledger();
    let stop = CancellationToken::new();
    let shipping = tokio::spawn(shipper.run(stop.clone()));
    // More than what is kept in memory.
    const EVENTS: u64 = 12_000;
    for number in 0..EVENTS {
        recorder.record(large(number as usize));
    }
    until("all is on disk", || ledger.spool_bytes() > EVENTS * 1000).await;
    assert_eq!((ledger.produced(), ledger.stored(), ledger.spooled()), (EVENTS, 0, EVENTS));
    ingest.to_break.store(3, SeqCst);
    let (_, _server) = ingest.serve_on(address).await;
    until("all is stored", || ledger.stored() == EVENTS).await;
    recorder.record(event(EVENTS as usize));
    until("the sender keeps up again", || ledger.stored() == EVENTS + 1).await;
    let stored: Vec<_> = ingest.events().into_iter().map(|event| event.request_id).collect();
    let sent: Vec<_> = (0..=EVENTS).map(|number| format!("request-{number}")).collect();
    assert_eq!(stored, sent, "in order, once each");
    assert_eq!((ledger.dropped(), ledger.spooled(), ingest.gaps()), (0, 0, [].into()));
    drop(recorder);
    stop.cancel();
    shipping.await.expect("ends");
    assert_eq!(fs::read_dir(&spool).expect("a folder").count(), 0);
}

#[tokio::test]
async fn what_a_killed_process_had_is_stored_or_counted_by_the_next() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let dir = tempfile::tempdir().expect("a folder");
    let (killed, left) = (dir.path().join("killed"), dir.path().join("left"));
    let mut shipper = shipper_on_disk(address, &killed, 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    let shipping = tokio::spawn(shipper.run(CancellationToken::new()));
    (0..500).for_each(|number| recorder.record(event(number)));
    until("some are on disk", || ledger.spool_bytes() > 0).await;
    (500..600).for_each(|number| recorder.record(event(number)));
    // The directory as a kill leaves it. The counts come last, as all else would be before them.
    fs::create_dir(&left).expect("made");
    let mut files: Vec<_> = fs::read_dir(&killed)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort_by_key(|path| path.extension().is_some_and(|it| it == "counts"));
    for file in files {
        fs::copy(&file, left.join(file.file_name().expect("a name"))).expect("copied");
    }
    shipping.abort();
    drop(shipping.await);

    let (_, _server) = ingest.serve_on(address).await;
    let mut shipper = shipper_on_disk(address, &left, 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    let stop = CancellationToken::new();
    let shipping = tokio::spawn(shipper.run(stop.clone()));
    (0..10).for_each(|number| recorder.record(event(number)));
    until("its own are stored", || ledger.stored() == 10).await;
    until("those of the other are", || ledger.left() == 0).await;
    drop(recorder);
    stop.cancel();
    shipping.await.expect("ends");
    let killed = ledger.lost().into_iter().find(|(reason, _)| *reason == "killed");
    let (_, killed) = killed.expect("counted");
    assert_eq!(ingest.events().len() as u64, 600 - killed + 10);
    assert_eq!(ingest.gaps().get("killed").copied().unwrap_or(0), killed);
    assert_balanced(&ledger);
    assert_eq!(fs::read_dir(&left).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_full_spool_shuts_the_gate_or_drops_and_tells_of_it() {
    for when_full in [WhenFull::Block, WhenFull::Drop] {
        let (ingest, address) = (Ingest::default(), nowhere().await);
        let dir = tempfile::tempdir().expect("a folder");
        let mut shipper = shipper_on_disk(address, dir.path(), 1 << 20, when_full);
        let recorder = shipper.recorder(events(50));
        let ledger = shipper.ledger();
        let stop = CancellationToken::new();
        let shipping = tokio::spawn(shipper.run(stop.clone()));
        let blocks = when_full == WhenFull::Block;
        let patience = Instant::now() + Duration::from_secs(20);
        for number in 0.. {
            if if blocks { !recorder.has_room() } else { ledger.dropped() > 100 } {
                break;
            }
            recorder.record(large(number));
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(Instant::now() < patience, "never full");
        }
        until("it is told", || ledger.is_full()).await;
        assert_eq!((recorder.has_room(), ledger.is_shut()), (!blocks, blocks), "{when_full:?}");
        assert!(ledger.spool_bytes() <= 1 << 20);
        // Under way when it got full: there is room for it.
        let dropped = ledger.dropped();
        if blocks {
            (0..40).for_each(|number| recorder.record(large(number)));
            recorder.drop_one();
            assert_eq!((dropped, ledger.dropped()), (0, 1));
        }
        assert_balanced(&ledger);
        let (_, _server) = ingest.serve_on(address).await;
        until("all is stored", || ledger.spooled() == 0).await;
        until("there is room", || recorder.has_room() && !ledger.is_full()).await;
        recorder.record(event(0));
        drop(recorder);
        stop.cancel();
        shipping.await.expect("ends");
        assert_eq!(ledger.produced(), ledger.stored() + ledger.dropped());
        assert_eq!(ingest.gaps(), [("dropped".into(), ledger.dropped())].into());
    }
}

#[tokio::test]
async fn a_batch_nearly_as_large_as_the_spool_leaves_it_open() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut shipper = shipper_on_disk(address, dir.path(), 1 << 20, WhenFull::Block);
    let recorder = shipper.recorder(events(50));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    recorder.record(Event { target_url: Some("x".repeat(1_000_000).into()), ..event(0) });
    until("it is stored", || ledger.stored() == 1).await;
    until("there is room", || recorder.has_room() && !ledger.is_full()).await;
}

#[tokio::test]
async fn a_full_spool_whose_files_are_removed_tells_what_is_lost_and_goes_on() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let dir = tempfile::tempdir().expect("a folder");
    let mut shipper = shipper_on_disk(address, dir.path(), 8 << 20, WhenFull::Block);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    fill(&recorder, dir.path(), 100 << 20).await;
    for entry in fs::read_dir(dir.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|it| it == "spool") {
            fs::remove_file(path).expect("removed");
        }
    }
    let (_, _server) = ingest.serve_on(address).await;
    until("there is room", || recorder.has_room() && !ledger.is_full()).await;
    until("what is gone is told", || ledger.spooled() == 0).await;
    assert!(ledger.stored() > 0 && ledger.dropped() > 0);
    assert_balanced(&ledger);
    let before = ledger.stored();
    recorder.record(event(0));
    until("the next is stored", || ledger.stored() == before + 1).await;
    assert_eq!(ingest.gaps(), [("damaged".into(), ledger.dropped())].into());
}

#[tokio::test]
async fn on_a_file_system_that_copies_what_changes_counts_are_in_memory() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let dir = tempfile::tempdir().expect("a folder");
    // btrfs.
    small_disk::format(dir.path(), 0x9123_683e);
    let mut shipper = shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(50));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    assert!(recorder.has_room(), "from the start");
    recorder.record(event(0));
    until("it is stored", || ledger.stored() == 1).await;
    assert_balanced(&ledger);
    assert_eq!(Tally::list(dir.path()).expect("listed"), []);
}

#[tokio::test]
async fn a_disk_that_fails_is_as_a_full_spool_until_it_is_mended() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let dir = tempfile::tempdir().expect("a folder");
    let spool = dir.path().join("audit");
    fs::write(&spool, "in the way").expect("written");
    let mut shipper = shipper_on_disk(address, &spool, 1 << 20, WhenFull::Block);
    let recorder = shipper.recorder(events(50));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    assert!(!recorder.has_room(), "shut from the start");
    recorder.record(event(0));
    until("it is told", || ledger.is_full()).await;
    assert_balanced(&ledger);
    fs::remove_file(&spool).expect("removed");
    until("it is stored", || ledger.stored() == 1 && recorder.has_room()).await;
}

/// Fills a disk of so many bytes with large events until the gate is shut; returns how many.
async fn fill(recorder: &Recorder, dir: &Path, bytes: u64) -> usize {
    small_disk::resize(dir, bytes);
    let patience = Instant::now() + Duration::from_secs(20);
    let mut recorded = 0;
    while recorder.has_room() {
        recorder.record(large(recorded));
        recorded += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(Instant::now() < patience, "never full");
    }
    recorded
}

#[tokio::test]
async fn a_full_disk_shuts_the_gate_with_every_event_on_it_and_opens_when_they_are_stored() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let dir = tempfile::tempdir().expect("a folder");
    let mut shipper = shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    until("its disk is looked at", || ledger.spool_limit() > 0).await;
    let filled = fill(&recorder, dir.path(), 3 << 20).await;
    // Under way by then.
    (filled..filled + 100).for_each(|number| recorder.record(large(number)));
    let all = filled + 100;
    until("they are on disk", || ledger.spool_bytes() > all as u64 * 1000).await;
    assert!(ledger.is_full() && !recorder.has_room());
    let (_, _server) = ingest.serve_on(address).await;
    until("all are stored", || ledger.stored() == all as u64).await;
    until("requests are taken again", || recorder.has_room() && !ledger.is_full()).await;
    // And once more, with a control plane that keeps up.
    for number in all..all + 5000 {
        until("there is room", || recorder.has_room()).await;
        recorder.record(large(number));
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    until("all are stored", || ledger.spooled() == 0).await;
    until("requests are taken again", || recorder.has_room()).await;
    assert_eq!((ledger.stored(), ledger.dropped()), (all as u64 + 5000, 0));
}

#[tokio::test]
async fn a_node_that_ends_on_a_full_disk_ships_what_it_could_not_write() {
    for is_away in [false, true] {
        let (ingest, address) = (Ingest::default(), nowhere().await);
        let dir = tempfile::tempdir().expect("a folder");
        small_disk::resize(dir.path(), 20_000);
        let mut shipper = shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block);
        let recorder = shipper.recorder(events(1000));
        let ledger = shipper.ledger();
        let stop = CancellationToken::new();
        let shipping = tokio::spawn(shipper.run(stop.clone()));
        assert!(!recorder.has_room(), "there is no room for a reserve");
        (0..10).for_each(|number| recorder.record(large(number)));
        until("some are on disk", || ledger.spool_bytes() > 0).await;
        (10..100).for_each(|number| recorder.record(large(number)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let boot = Tally::list(dir.path()).expect("listed")[0].0;
        let server = if is_away { None } else { Some(ingest.serve_on(address).await) };
        drop(recorder);
        stop.cancel();
        shipping.await.expect("ends");
        if server.is_some() {
            assert_eq!((ledger.stored(), ingest.events().len()), (100, 100));
            assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
        } else {
            // The next start knows what it does not find.
            let left = Tally::list(dir.path()).expect("listed");
            assert_eq!(left, [(boot, Tally { produced: 100, ..Tally::default() })]);
        }
    }
}

#[tokio::test]
async fn a_start_on_a_full_disk_counts_for_the_next_one_from_when_there_is_room() {
    for when_full in [WhenFull::Block, WhenFull::Drop] {
        let address = nowhere().await;
        let dir = tempfile::tempdir().expect("a folder");
        small_disk::resize(dir.path(), 10);
        let mut shipper = shipper_on_disk(address, dir.path(), 1 << 30, when_full);
        let recorder = shipper.recorder(events(1000));
        assert_eq!(recorder.has_room(), when_full == WhenFull::Drop, "{when_full:?}");
        tokio::spawn(shipper.run(CancellationToken::new()));
        (0..7).for_each(|number| recorder.record(event(number)));
        assert_eq!(Tally::list(dir.path()).expect("listed"), []);
        small_disk::resize(dir.path(), 100 << 20);
        let tally = || Tally::list(dir.path()).ok()?.first().map(|(_, tally)| tally.produced);
        until("it is made up for", || tally() == Some(7) && recorder.has_room()).await;
        recorder.record(event(7));
        assert_eq!(tally(), Some(8), "at once");
    }
}
