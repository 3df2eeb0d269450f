//! Events that go onward beside the control plane, or in its place.

use super::*;

fn to_file(path: &Path) -> Onward {
    let target = FileTarget::Path(path.to_owned());
    let file = FileSettings { target, size: 1 << 30, keep: NonZeroUsize::MIN };
    Onward { file: Some(file), ..Onward::default() }
}

fn to_collector(address: SocketAddr) -> Onward {
    let url = format!("http://{address}").parse().expect("a URL");
    Onward { otlp: Some(OtlpSettings { url, ca: None, headers: None }), ..Onward::default() }
}

fn in_file(path: &Path, field: &str) -> Vec<String> {
    let lines = fs::read_to_string(path).unwrap_or_default();
    let read = |line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
    lines.lines().map(|line| read(line)[field].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_sink_goes_on_while_the_control_plane_is_away() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, file) = (dir.path().join("audit"), dir.path().join("audit.jsonl"));
    // More than what is under way to either of them.
    const EVENTS: usize = 12_000;
    let mut shipper = shipper_onward(address, in_dir(&spool), to_file(&file));
    let recorder = shipper.recorder(events(20_000));
    let ledger = shipper.ledger();
    let stop = CancellationToken::new();
    let shipping = tokio::spawn(shipper.run(stop.clone()));
    (0..EVENTS).for_each(|number| recorder.record(large(number)));
    let taken = || ledger.sinks().next().expect("a sink").taken;
    until("the file has all", || taken() == EVENTS as u64).await;
    assert_eq!(in_file(&file, "request_id"), requests(0..EVENTS), "in order, once each");
    assert_eq!((ledger.stored(), ledger.spooled()), (0, EVENTS as u64));
    assert!(ledger.spool_bytes() > EVENTS as u64 * 1000, "kept for the control plane");
    let (_, _server) = ingest.serve_on(address).await;
    until("the control plane has all", || ledger.stored() == EVENTS as u64).await;
    drop(recorder);
    stop.cancel();
    shipping.await.expect("ends");
    assert_eq!(fs::read_dir(&spool).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_sink_that_is_away_gets_the_rest_at_the_next_start_or_is_forgotten() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    for is_still_set in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let (spool, file) = (dir.path().join("audit"), dir.path().join("none/audit.jsonl"));
        let run = async |onward: Onward, numbers: std::ops::Range<usize>| {
            let mut shipper = shipper_onward(address, in_dir(&spool), onward);
            let recorder = shipper.recorder(events(1000));
            let ledger = shipper.ledger();
            let stop = CancellationToken::new();
            let shipping = tokio::spawn(shipper.run(stop.clone()));
            let begun = ledger.produced();
            numbers.for_each(|number| recorder.record(event(number)));
            until("they are stored", || ledger.stored() == ledger.produced() - begun).await;
            drop(recorder);
            stop.cancel();
            shipping.await.expect("ends");
            ledger
        };
        let ledger = run(to_file(&file), 0..50).await;
        let state = ledger.sinks().next().expect("a sink");
        assert_eq!((state.waiting, state.taken, state.is_away), (50, 0, true));
        assert!(state.errors > 0 && fs::read_dir(&spool).expect("a folder").count() > 0);

        fs::create_dir(dir.path().join("none")).expect("made");
        if is_still_set {
            let ledger = run(to_file(&file), 50..60).await;
            let state = ledger.sinks().next().expect("a sink");
            assert_eq!((state.waiting, state.taken, state.is_away), (0, 60, false));
            assert_eq!(in_file(&file, "request_id"), requests(0..60));
        } else {
            run(Onward::default(), 50..60).await;
        }
        assert_eq!(fs::read_dir(&spool).expect("a folder").count(), 0, "{is_still_set}");
    }
    assert_eq!(ingest.events().len(), 120, "the control plane got all of them once");
}

#[tokio::test]
async fn with_the_store_off_sinks_are_of_record_and_no_control_plane_is_asked() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, file) = (dir.path().join("audit"), dir.path().join("audit.jsonl"));
    let onward = Onward { store: Store::Off, ..to_file(&file) };
    let onward = Onward { otlp: to_collector(nowhere().await).otlp, ..onward };
    let mut shipper = shipper_onward(address, in_dir(&spool), onward);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    (0..50).for_each(|number| recorder.record(event(number)));
    until("the file has all", || in_file(&file, "request_id").len() == 50).await;
    // Not stored before every sink has it.
    assert_eq!((ledger.stored(), ledger.spooled()), (0, 50));
    assert_balanced(&ledger);
    let waiting: Vec<_> = ledger.sinks().map(|sink| (sink.name, sink.waiting)).collect();
    until("the file is done", || ledger.sinks().any(|sink| sink.waiting == 0)).await;
    assert_eq!(waiting.last(), Some(&("otlp", 50)));
    assert_eq!(ingest.received.load(SeqCst), 0);
}
