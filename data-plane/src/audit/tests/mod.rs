//! The whole way of an event, from a worker to a control plane in miniature that fails on purpose.

mod on_disk;
mod refusals;
mod sinks;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

use fastgate::{
    admin::v1::LogEvent,
    audit::REFUSED_BATCH,
    model::Id,
    node::v1::{
        Batch, BatchAck,
        audit_ingest_server::{AuditIngest, AuditIngestServer},
    },
};
use http::{Method, StatusCode};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

use super::{
    Ending, Event, FileSettings, FileTarget, Ledger, Onward, OtlpSettings, Recorder, Shipper,
    SpoolSettings, Store, Texts, WhenFull,
    batch::Batcher,
    ring::{ring, ring_of},
    tally::Counts,
};
use crate::identity::Identity;

pub(super) fn event(number: usize) -> Event {
    Event {
        timestamp: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        texts: Texts::new(format!("request-{number}").as_bytes(), b"/a/b", b"caf\xe9"),
        key: None,
        secret_version: 0,
        route_id: Some(Id::parse("r1").expect("an id")),
        method: Method::GET,
        target_url: Some("http://10.0.0.5:8080".into()),
        status: StatusCode::NOT_FOUND,
        response_time: Duration::from_micros(1_500),
        ttfb: Duration::from_micros(1_250),
        upstream_time: Duration::from_micros(750),
        request_size: 1,
        response_size: 2,
        ip_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        attempts: 2,
        error: Some("no_route"),
        rate_limited: false,
        ending: Ending::Complete,
        is_counted_only: false,
        chunks: 3,
        recorded: None,
    }
}

fn identity() -> Arc<Identity> {
    let id = |text| Id::parse(text).expect("an id");
    Arc::new(Identity::of_this_boot(id("default"), id("n1")))
}

/// The boot of a batch, its number, and whether it holds gaps alone.
type Name = (String, u64, bool);

/// Stores what it acknowledges, and breaks this many streams before it does.
#[derive(Clone, Default)]
struct Ingest {
    stored: Arc<Mutex<BTreeMap<Name, Batch>>>,
    received: Arc<AtomicUsize>,
    to_break: Arc<AtomicUsize>,
    /// What it does not store, as it says.
    refused: Arc<Mutex<Option<Refused>>>,
}

/// Batches that hold the event of this number are not stored; `named`: it says which they are.
#[derive(Clone, Copy)]
struct Refused {
    event: usize,
    code: Code,
    named: bool,
}

impl Refused {
    fn of(self, batch: &Batch) -> Option<Status> {
        let id = format!("request-{}", self.event);
        batch.events.iter().any(|event| event.request_id == id).then(|| {
            let mut status = Status::new(self.code, "on purpose");
            if self.named {
                status.metadata_mut().insert(REFUSED_BATCH, batch.first_seq.into());
            }
            status
        })
    }
}

#[tonic::async_trait]
impl AuditIngest for Ingest {
    type PushStream = ReceiverStream<Result<BatchAck, Status>>;

    async fn push(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let mut batches = request.into_inner();
        let (answers, acks) = mpsc::channel(16);
        let ingest = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                ingest.received.fetch_add(1, SeqCst);
                let breaks = ingest.to_break.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
                if breaks.is_ok() {
                    drop(answers.send(Err(Status::unavailable("broken on purpose"))).await);
                    return;
                }
                let refused = *ingest.refused.lock().expect("no panic");
                if let Some(status) = refused.and_then(|refused| refused.of(&batch)) {
                    drop(answers.send(Err(status)).await);
                    return;
                }
                let first_seq = batch.first_seq;
                // One of gaps alone has the number of the next.
                let name = (batch.boot_id.clone(), first_seq, batch.events.is_empty());
                let before = ingest.stored.lock().expect("no panic").insert(name, batch);
                assert!(before.is_none(), "batch {first_seq} came again after its ack");
                drop(answers.send(Ok(BatchAck { first_seq })).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(acks)))
    }
}

impl Ingest {
    async fn serve_on(&self, address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let server = Server::builder().add_service(AuditIngestServer::new(self.clone()));
        let served = server.serve_with_incoming(TcpListenerStream::new(listener));
        (address, tokio::spawn(async { served.await.expect("serves") }))
    }

    fn events(&self) -> Vec<LogEvent> {
        let stored = self.stored.lock().expect("no panic");
        stored.values().flat_map(|batch| batch.events.clone()).collect()
    }

    /// Events that are told to be lost, each boot's all accounted for: how many for which reason.
    fn gaps(&self) -> BTreeMap<String, u64> {
        let stored = self.stored.lock().expect("no panic");
        let mut ranges: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        let mut gaps = BTreeMap::new();
        for ((boot, first_seq, _), batch) in stored.iter() {
            let of_boot = ranges.entry(boot).or_default();
            of_boot.push((*first_seq, batch.events.len() as u64));
            for gap in &batch.gaps {
                of_boot.push((gap.first_seq, gap.events));
                *gaps.entry(gap.reason.clone()).or_default() += gap.events;
            }
        }
        for (boot, mut ranges) in ranges {
            ranges.sort();
            let mut next = 0;
            for (first_seq, events) in ranges {
                assert_eq!(first_seq, next, "{boot}: twice, or nowhere");
                next = first_seq + events;
            }
        }
        gaps
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn shipper_to(address: SocketAddr) -> Shipper {
    let uri = format!("http://{address}").parse().expect("a URL");
    Shipper::new(identity(), vec![uri].into(), NonZeroUsize::MIN, None, Onward::default())
}

fn events(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("some")
}

/// The same with a spool in `dir`, which is full early.
fn shipper_on_disk(address: SocketAddr, dir: &Path, limit: u64, when_full: WhenFull) -> Shipper {
    let spool = SpoolSettings { dir: dir.to_owned(), limit, when_full };
    shipper_onward(address, spool, Onward::default())
}

/// The same with sinks.
fn shipper_onward(address: SocketAddr, spool: SpoolSettings, onward: Onward) -> Shipper {
    let uri = format!("http://{address}").parse().expect("a URL");
    Shipper::new(identity(), vec![uri].into(), NonZeroUsize::MIN, Some(spool), onward)
}

fn in_dir(dir: &Path) -> SpoolSettings {
    SpoolSettings { dir: dir.to_owned(), limit: 1 << 30, when_full: WhenFull::Block }
}

/// What the lines of a file say of a field.
fn requests(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("request-{number}")).collect()
}

/// An event of about a kilobyte.
pub(super) fn large(number: usize) -> Event {
    Event { target_url: Some("x".repeat(1000).into()), ..event(number) }
}

/// An address nobody listens at.
async fn nowhere() -> SocketAddr {
    let (address, server) = Ingest::default().serve_on(loopback(0)).await;
    server.abort();
    until("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
    address
}

fn assert_balanced(ledger: &Ledger) {
    let sum = ledger.stored() + ledger.spooled() + ledger.dropped();
    assert_eq!(ledger.produced(), sum, "produced = stored + spooled + dropped");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn what_a_full_ring_drops_is_counted_and_leaves_a_gap_of_its_size() {
    let (recorder, tap) = ring(4);
    let (other, other_tap) = ring(4);
    let counts = tap.counts();
    let mut batcher = Batcher::new(identity(), vec![tap, other_tap]);
    for number in 0..10 {
        recorder.record(event(number));
    }
    other.record(event(10));
    assert_eq!((counts.produced(), counts.dropped()), (10, 6));
    let first = batcher.next().expect("five events");
    assert_eq!((first.first_seq, first.events), (6, 5));
    assert!(batcher.next().is_none());
    recorder.record(event(11));
    let second = batcher.next().expect("an event");
    assert_eq!((second.first_seq, second.events), (11, 1));
    assert!(!batcher.is_exhausted());
    drop((recorder, other));
    assert!(batcher.is_exhausted());
}

#[test]
fn a_ring_nobody_empties_is_left_to_the_requests_under_way() {
    let gate = Some(Arc::default());
    let (recorder, mut tap) = ring_of(16, Counts::new(), gate);
    let recorded = (0..).take_while(|number| {
        let has_room = recorder.has_room();
        has_room.then(|| recorder.record(event(*number))).is_some()
    });
    assert_eq!(recorded.count(), 13, "a quarter is left");
    (0..3).for_each(|number| recorder.record(event(number)));
    assert_eq!((tap.counts().dropped(), recorder.has_room()), (0, false));
    (0..4).for_each(|_| drop(tap.pop()));
    assert!(recorder.has_room());
    // Where what does not fit is dropped, there is always room.
    let (recorder, _tap) = ring(4);
    (0..10).for_each(|number| recorder.record(event(number)));
    assert!(recorder.has_room());
}

#[test]
fn a_batch_is_bounded_in_events_and_bytes() {
    let (recorder, tap) = ring(10_000);
    let mut batcher = Batcher::new(identity(), vec![tap]);
    for number in 0..5000 {
        recorder.record(event(number));
    }
    let sizes: Vec<_> = std::iter::from_fn(|| batcher.next().map(|batch| batch.events)).collect();
    assert_eq!(sizes, [4096, 904]);
    for number in 0..40 {
        recorder.record(Event { target_url: Some("x".repeat(60_000).into()), ..event(number) });
    }
    let sealed: Vec<_> = std::iter::from_fn(|| batcher.next()).collect();
    assert_eq!(sealed.iter().map(|batch| batch.events).collect::<Vec<_>>(), [18, 18, 4]);
    assert!(sealed.iter().all(|batch| batch.encoded.len() < (1 << 20) + 65_536));
}

#[tokio::test]
async fn an_event_arrives_whole_and_in_time() {
    let ingest = Ingest::default();
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let mut shipper = shipper_to(address);
    let recorder = shipper.recorder(events(16));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    recorder.record(event(7));
    until("the event", || ledger.stored() == 1).await;
    let expected = LogEvent {
        timestamp: Some((SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)).into()),
        request_id: "request-7".into(),
        method: "GET".into(),
        path: "/a/b".into(),
        target_url: "http://10.0.0.5:8080".into(),
        status_code: 404,
        response_time_ms: 1.5,
        request_size: 1,
        response_size: 2,
        user_agent: "caf\u{fffd}".into(),
        ip_address: "127.0.0.1".into(),
        environment: "default".into(),
        node_id: "n1".into(),
        route_id: "r1".into(),
        upstream_time_ms: 0.75,
        ttfb_ms: 1.25,
        attempts: 2,
        error: "no_route".into(),
        response_chunks: 3,
        response_end: "complete".into(),
        ..Default::default()
    };
    assert_eq!(ingest.events(), [expected]);
}

#[tokio::test]
async fn batches_without_an_ack_are_sent_again_and_stored_once() {
    let ingest = Ingest::default();
    ingest.to_break.store(3, SeqCst);
    let (address, _server) = ingest.serve_on(loopback(0)).await;
    let mut shipper = shipper_to(address);
    let recorder = shipper.recorder(events(1000));
    let ledger = shipper.ledger();
    tokio::spawn(shipper.run(CancellationToken::new()));
    for number in 0..300 {
        recorder.record(event(number));
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
    }
    until("all events", || ledger.stored() == 300).await;
    assert_eq!((ledger.produced(), ledger.dropped(), ledger.spooled()), (300, 0, 0));
    let stored: Vec<_> = ingest.events().into_iter().map(|event| event.request_id).collect();
    let sent: Vec<_> = (0..300).map(|number| format!("request-{number}")).collect();
    assert_eq!(stored, sent, "in order, once each");
    assert!(ingest.received.load(SeqCst) >= 3 + ingest.stored.lock().expect("no panic").len());
}

#[tokio::test]
async fn a_control_plane_that_is_away_costs_only_what_does_not_fit() {
    let (ingest, address) = (Ingest::default(), nowhere().await);
    let mut shipper = shipper_to(address).with_bytes_in_memory(10_000);
    let recorder = shipper.recorder(events(50));
    let ledger = shipper.ledger();
    let stop = CancellationToken::new();
    let shipping = tokio::spawn(shipper.run(stop.clone()));
    for number in 0..2000 {
        recorder.record(event(number));
        if number % 40 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(ledger.dropped() > 0, "memory is bounded");
    assert!(ledger.spooled() > 50, "what fits is kept");
    assert_eq!(ledger.stored(), 0);
    let (_, _server) = ingest.serve_on(address).await;
    drop(recorder);
    stop.cancel();
    shipping.await.expect("ends");
    assert_eq!(ledger.produced(), 2000);
    assert_eq!(ledger.produced(), ledger.stored() + ledger.dropped());
    assert_eq!(ingest.events().len() as u64, ledger.stored());
    assert_eq!(ingest.gaps(), [("dropped".into(), ledger.dropped())].into());
}

#[tokio::test]
async fn a_node_that_ends_ships_what_is_left_or_gives_up_in_time() {
    let ingest = Ingest::default();
    let (address, server) = ingest.serve_on(loopback(0)).await;
    for (reachable, stored) in [(true, 20), (false, 20)] {
        if !reachable {
            server.abort();
        }
        let mut shipper = shipper_to(address);
        let recorder = shipper.recorder(events(100));
        let stop = CancellationToken::new();
        let shipping = tokio::spawn(shipper.run(stop.clone()));
        for number in 0..20 {
            recorder.record(event(number));
        }
        drop(recorder);
        stop.cancel();
        let start = Instant::now();
        shipping.await.expect("ends");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(ingest.events().len(), stored, "reachable: {reachable}");
    }
}
