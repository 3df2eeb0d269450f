//! Batches that the control plane refuses.

use super::*;

#[tokio::test]
async fn a_batch_that_is_refused_for_good_gives_way_to_a_gap() {
    for on_disk in [false, true] {
        let ingest = Ingest::default();
        let refused = Refused { event: 1, code: Code::InvalidArgument, named: true };
        *ingest.refused.lock().expect("no panic") = Some(refused);
        let (address, _server) = ingest.serve_on(loopback(0)).await;
        let dir = tempfile::tempdir().expect("a folder");
        let mut shipper = match on_disk {
            true => shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block),
            false => shipper_to(address),
        };
        let recorder = shipper.recorder(events(4));
        let ledger = shipper.ledger();
        let stop = CancellationToken::new();
        // Six are dropped, and the batch that is refused is the first to tell of them.
        (0..4).rev().for_each(|number| recorder.record(event(number)));
        (4..10).for_each(|number| recorder.record(event(number)));
        let shipping = tokio::spawn(shipper.run(stop.clone()));
        until("it gave way", || ledger.refused() == 4).await;
        assert_balanced(&ledger);
        recorder.record(event(10));
        until("the next is stored", || ledger.stored() == 1).await;
        assert_eq!((ledger.produced(), ledger.dropped(), ledger.spooled()), (11, 10, 0));
        assert_eq!(ingest.gaps(), [("dropped".into(), 6), ("refused".into(), 4)].into());
        drop(recorder);
        stop.cancel();
        shipping.await.expect("ends");
        let left = fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!((on_disk, left), (on_disk, 0), "nothing waits");
    }
}

#[tokio::test]
async fn what_may_pass_never_makes_a_batch_give_way() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let mut shipper = shipper_to(address);
    let recorder = shipper.recorder(events(16));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    for (number, code, named) in [
        (0, Code::Unavailable, true),
        (1, Code::FailedPrecondition, true),
        (2, Code::Internal, true),
        (3, Code::ResourceExhausted, true),
        // Of the stream, or of a proxy on the way.
        (4, Code::InvalidArgument, false),
        (5, Code::NotFound, false),
        // The environment may be back soon.
        (6, Code::NotFound, true),
    ] {
        let received = ingest.received.load(SeqCst);
        *ingest.refused.lock().expect("no panic") = Some(Refused { event: number, code, named });
        recorder.record(event(number));
        until("it was tried often", || ingest.received.load(SeqCst) >= received + 3).await;
        assert_eq!((ledger.stored(), ledger.dropped()), (number as u64, 0), "{code:?}");
        *ingest.refused.lock().expect("no panic") = None;
        until("it is stored", || ledger.stored() == number as u64 + 1).await;
    }
    assert_eq!(ingest.gaps(), [].into());
}

#[tokio::test]
async fn events_of_an_environment_that_is_gone_do_not_hold_up_others() {
    let ingest = Ingest::default();
    let address = nowhere().await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut shipper = shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block);
    let recorder = shipper.recorder(events(16));
    let ledger = shipper.ledger();
    let shipping = tokio::spawn(shipper.run(CancellationToken::new()));
    (0..3).for_each(|number| recorder.record(event(number)));
    until("they are on disk", || ledger.spool_bytes() > 0).await;
    shipping.abort();
    drop((shipping.await, recorder));

    let refused = Refused { event: 1, code: Code::NotFound, named: true };
    *ingest.refused.lock().expect("no panic") = Some(refused);
    let (_, _server) = ingest.serve_on(address).await;
    let patience = Duration::from_millis(500);
    let mut shipper =
        shipper_on_disk(address, dir.path(), 1 << 30, WhenFull::Block).with_patience(patience);
    let recorder = shipper.recorder(events(16));
    let ledger = shipper.ledger();
    let began = Instant::now();
    tokio::spawn(shipper.run(CancellationToken::new()));
    recorder.record(event(3));
    until("its own are stored", || ledger.stored() == 1).await;
    assert!(began.elapsed() >= patience, "{:?}", began.elapsed());
    let lost: BTreeMap<_, _> = ledger.lost().into();
    assert_eq!((ledger.left(), lost["refused"], ledger.dropped()), (0, 3, 0));
    assert_balanced(&ledger);
}

#[tokio::test]
async fn what_was_lost_with_an_environment_is_told_when_it_is_back() {
    let ingest = Ingest::default();
    let refused = Refused { event: 1, code: Code::NotFound, named: true };
    *ingest.refused.lock().expect("no panic") = Some(refused);
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let mut shipper = shipper_to(address).with_patience(Duration::from_millis(200));
    let recorder = shipper.recorder(events(2));
    let ledger = shipper.ledger();
    // Three are dropped, and the batch that is refused is the first to tell of them.
    (0..2).for_each(|number| recorder.record(event(number)));
    (2..5).for_each(|number| recorder.record(event(number)));
    tokio::spawn(shipper.run(CancellationToken::new()));
    until("it gave way", || ledger.refused() == 2).await;
    assert_eq!(ingest.gaps(), [].into(), "there is nowhere to tell it");
    // A moment, or the next batch is made before it is known what it has to tell.
    tokio::time::sleep(Duration::from_millis(100)).await;
    recorder.record(event(5));
    until("the next is stored", || ledger.stored() == 1).await;
    assert_balanced(&ledger);
    assert_eq!(ingest.gaps(), [("dropped".into(), 3), ("refused".into(), 2)].into());
}
