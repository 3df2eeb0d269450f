//! What nodes push, over a real stream into a real store.

use std::{sync::Arc, time::SystemTime};

use fastgate::{
    admin::v1::LogEvent,
    audit::{EventMatch, REFUSED_BATCH},
    node::v1::{Batch, BatchAck, Gap, audit_ingest_client::AuditIngestClient},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, service::Routes, transport::Endpoint};

use super::Ingest;
use crate::{
    domain::{EventFilter, Expect, Op, Usage},
    identity::Guard,
    listen,
    store::{
        Store,
        tests::samples::{commit, id, key, listed, scratch},
    },
};

struct World {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    endpoint: Endpoint,
    _dir: TempDir,
}

struct Push {
    batches: mpsc::Sender<Batch>,
    acks: Streaming<BatchAck>,
}

impl World {
    async fn start() -> Self {
        let (store, dir) = scratch().await;
        let stop = CancellationToken::new();
        let routes = Routes::new(Ingest::new(Arc::clone(&store), stop.clone()).service());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(listen::serve(
            listener,
            listen::Transport::Plain,
            Guard(routes),
            stop.clone(),
        ));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        Self { store, stop, endpoint, _dir: dir }
    }

    async fn push(&self) -> Push {
        let mut client = AuditIngestClient::new(self.endpoint.connect().await.expect("connects"));
        let (batches, inbound) = mpsc::channel(64);
        let acks = client.push(ReceiverStream::new(inbound)).await.expect("a stream");
        Push { batches, acks: acks.into_inner() }
    }

    /// The request ids of all that is stored, newest first.
    async fn stored(&self) -> Vec<String> {
        let filter = EventFilter {
            environment: id("default"),
            from: SystemTime::UNIX_EPOCH,
            until: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100_000),
            matching: EventMatch::default(),
        };
        let events = listed(&self.store, &filter).await;
        events.into_iter().map(|(_, event)| event.request_id).collect()
    }

    async fn add_key(&self, name: &str) {
        let put = Op::PutKey(key(name), Expect::Absent);
        commit(&self.store, vec![put]).await.expect("commits");
    }

    async fn usage(&self, key: &str) -> Usage {
        let found = self.store.key(&id("default"), key).await.expect("reads");
        found.expect("is there").1
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Push {
    async fn say(&self, batch: Batch) {
        self.batches.send(batch).await.expect("the stream is open");
    }

    async fn ack(&mut self) -> u64 {
        self.acks.message().await.expect("no fault").expect("an ack").first_seq
    }

    async fn fault(&mut self) -> Status {
        self.acks.message().await.expect_err("a fault")
    }
}

/// Which batch a fault is of.
fn refused_batch(fault: &Status) -> Option<u64> {
    fault.metadata().get(REFUSED_BATCH)?.to_str().ok()?.parse().ok()
}

/// Events of one boot, numbered from `first_seq`; each of the key `k1`.
fn batch(first_seq: u64, events: u64) -> Batch {
    let event = |seq: u64| LogEvent {
        request_id: format!("r{seq}"),
        key_id: "k1".into(),
        timestamp: Some(prost_types::Timestamp { seconds: (seq % 50_000) as i64, nanos: 0 }),
        ..LogEvent::default()
    };
    Batch {
        node_id: "n1".into(),
        boot_id: "boot-1".into(),
        environment: "default".into(),
        first_seq,
        events: (0..events).map(|n| event(first_seq.wrapping_add(n))).collect(),
        gaps: Vec::new(),
        counted: Vec::new(),
    }
}

#[tokio::test]
async fn batches_are_acknowledged_in_order_once_they_are_stored() {
    let world = World::start().await;
    let mut push = world.push().await;
    for n in 0..40 {
        push.say(batch(n * 10, 10)).await;
    }
    for n in 0..40 {
        assert_eq!(push.ack().await, n * 10);
        assert!(world.stored().await.len() as u64 >= (n + 1) * 10, "stored before it is said");
    }
    let expected: Vec<_> = (0..400).rev().map(|seq| format!("r{seq}")).collect();
    assert_eq!(world.stored().await, expected);
}

#[tokio::test]
async fn a_batch_pushed_again_is_acknowledged_and_stored_once() {
    let world = World::start().await;
    world.add_key("k1").await;
    let mut push = world.push().await;
    push.say(batch(0, 3)).await;
    assert_eq!(push.ack().await, 0);
    push.say(batch(0, 3)).await;
    assert_eq!(push.ack().await, 0);
    drop(push);
    let mut push = world.push().await;
    push.say(batch(0, 3)).await;
    push.say(batch(3, 1)).await;
    assert_eq!((push.ack().await, push.ack().await), (0, 3));
    assert_eq!(world.stored().await, ["r3", "r2", "r1", "r0"]);
    let usage = world.usage("k1").await;
    assert_eq!(usage.count, 4, "counted once as well");
    let last = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3);
    assert_eq!(usage.last_used_at, Some(last));

    // Another boot of the node numbers its own.
    push.say(Batch { boot_id: "boot-2".into(), ..batch(0, 1) }).await;
    assert_eq!(push.ack().await, 0);
    assert_eq!(world.stored().await.len(), 5);
}

#[tokio::test]
async fn batches_that_come_together_are_stored_each_once_though_the_first_was_before() {
    let world = World::start().await;
    let mut push = world.push().await;
    push.say(batch(0, 3)).await;
    assert_eq!(push.ack().await, 0);
    drop(push);
    // All are there when the control plane looks for the first.
    let (batches, inbound) = mpsc::channel(64);
    for first_seq in (0..60).step_by(3) {
        batches.send(batch(first_seq, 3)).await.expect("there is room");
    }
    let mut client = AuditIngestClient::new(world.endpoint.connect().await.expect("connects"));
    let acks = client.push(ReceiverStream::new(inbound)).await.expect("a stream").into_inner();
    let mut push = Push { batches, acks };
    for first_seq in (0..60).step_by(3) {
        assert_eq!(push.ack().await, first_seq);
    }
    let mut stored = world.stored().await;
    stored.sort_by_key(|id| id[1..].parse::<u64>().expect("a number"));
    assert_eq!(stored, (0..60).map(|seq| format!("r{seq}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bad_batch_is_refused_by_its_field() {
    let world = World::start().await;
    let gap = |first_seq, events, reason: &str| {
        let gap = Gap { first_seq, events, reason: reason.into() };
        Batch { gaps: vec![gap], ..batch(10, 1) }
    };
    let slow = |ms| {
        let mut batch = batch(10, 1);
        batch.events[0].response_time_ms = ms;
        batch
    };
    let cases: [(Batch, &str); 15] = [
        (slow(f64::NAN), "events.response_time_ms"),
        (slow(f64::INFINITY), "events.response_time_ms"),
        (Batch { node_id: String::new(), ..batch(0, 1) }, "node_id"),
        (Batch { node_id: "n".repeat(129), ..batch(0, 1) }, "node_id"),
        (Batch { boot_id: "b\0".into(), ..batch(0, 1) }, "boot_id"),
        (Batch { environment: "No Such!".into(), ..batch(0, 1) }, "environment"),
        (batch(0, 0), "events"),
        (batch(0, 4097), "events"),
        (gap(0, 0, "dropped"), "gaps.events"),
        (gap(9, 2, "dropped"), "gaps.events"),
        (gap(u64::MAX, 2, "dropped"), "gaps.events"),
        (gap(0, 1, "no word\n"), "gaps.reason"),
        (Batch { gaps: vec![Gap::default(); 257], ..batch(10, 1) }, "gaps"),
        (batch(u64::MAX, 2), "first_seq"),
        (batch(i64::MAX as u64, 1), "first_seq"),
    ];
    for (bad, field) in cases {
        let mut push = world.push().await;
        push.say(batch(100, 1)).await;
        assert_eq!(push.ack().await, 100);
        let number = bad.first_seq;
        push.say(bad).await;
        let fault = push.fault().await;
        assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
        assert_eq!(refused_batch(&fault), Some(number), "the node knows which");
        assert!(fault.message().starts_with(&format!("{field}: ")), "{fault}");
    }
    assert_eq!(world.stored().await, ["r100"]);
    let mut push = world.push().await;
    push.say(batch(101, 4096)).await;
    assert_eq!(push.ack().await, 101, "the most there may be");
}

#[tokio::test]
async fn a_batch_may_hold_gaps_alone() {
    let world = World::start().await;
    let mut push = world.push().await;
    let gap = Gap { first_seq: 0, events: 7, reason: "killed".into() };
    let gaps = Batch { gaps: vec![gap], ..batch(7, 0) };
    push.say(gaps.clone()).await;
    push.say(gaps).await;
    push.say(batch(7, 2)).await;
    assert_eq!((push.ack().await, push.ack().await, push.ack().await), (7, 7, 7));
    assert_eq!(world.stored().await, ["r8", "r7"]);
}

#[tokio::test]
async fn events_of_an_unknown_environment_are_refused() {
    let world = World::start().await;
    let mut push = world.push().await;
    push.say(Batch { environment: "nowhere".into(), ..batch(0, 1) }).await;
    let fault = push.fault().await;
    let told = "environment 'nowhere' does not exist";
    assert_eq!((fault.code(), fault.message()), (Code::NotFound, told));
    assert_eq!(refused_batch(&fault), Some(0));
    // Nothing was kept of it, so it is no repeated batch where it belongs.
    let mut push = world.push().await;
    push.say(batch(0, 1)).await;
    assert_eq!(push.ack().await, 0);
    assert_eq!(world.stored().await, ["r0"]);
}

#[tokio::test]
async fn a_stop_ends_the_streams() {
    let world = World::start().await;
    let mut push = world.push().await;
    push.say(batch(0, 1)).await;
    assert_eq!(push.ack().await, 0);
    world.stop.cancel();
    let fault = push.fault().await;
    assert_eq!(fault.code(), Code::Unavailable, "which is worth a retry");
    assert_eq!(refused_batch(&fault), None);
}
