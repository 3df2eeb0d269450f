//! Events that wait in the spool.

use super::*;

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
        assert_eq!((recorder.has_room(), ledger.is_full()), (!blocks, !blocks), "{when_full:?}");
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
    assert!(recorder.has_room(), "nothing was tried yet");
    recorder.record(event(0));
    until("the gate is shut", || !recorder.has_room() && ledger.is_full()).await;
    assert_balanced(&ledger);
    fs::remove_file(&spool).expect("removed");
    until("it is stored", || ledger.stored() == 1 && recorder.has_room()).await;
}
