//! A follower on its disk and against a control plane in miniature, which each test plays itself.

mod simulated;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fastgate::{
    model::{Id, Labels},
    node::v1::{
        Ack, ControlMessage, Drain, Entity, Heartbeat, Hello, Nack, NodeMessage,
        config_stream_server::{ConfigStream, ConfigStreamServer},
        control_message::Body as Said,
        node_message::Body,
    },
};
use http::Uri;
use prost::Message as _;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    Follower, Holding, Namespace, Parts, Progress,
    replica::tests::{delete, delta, key, message, route, snapshot, upsert},
    state_dir::{Newest, StateDir},
};
use crate::{
    audit::{Onward, Shipper},
    falls::{Fall, Falls, falls},
    identity::Identity,
    limits::Limiter,
    settings::Settings,
    snapshot::SnapshotCell,
};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;
const PATIENCE: Duration = Duration::from_secs(20);

/// Accepts streams and hands them to the test.
struct ControlPlane {
    uri: Uri,
    streams: mpsc::Receiver<Stream>,
    server: JoinHandle<()>,
}

/// One node's stream, as the control plane has it.
struct Stream {
    hello: Hello,
    to_node: mpsc::Sender<Result<ControlMessage, Status>>,
    from_node: Streaming<NodeMessage>,
}

struct Service(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl ConfigStream for Service {
    type SyncStream = ReceiverStream<Result<ControlMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut from_node = request.into_inner();
        let first = from_node.message().await?.and_then(|message| message.body);
        let Some(Body::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        let (to_node, messages) = mpsc::channel(64);
        drop(self.0.send(Stream { hello, to_node, from_node }).await);
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl ControlPlane {
    async fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let (sender, streams) = mpsc::channel(8);
        let server = Server::builder().add_service(ConfigStreamServer::new(Service(sender)));
        let served = server.serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async { served.await.expect("serves") });
        Self { uri: format!("http://{address}").parse().expect("a URL"), streams, server }
    }

    async fn stream(&mut self) -> Stream {
        let stream = timeout(PATIENCE, self.streams.recv()).await.expect("the node connects");
        stream.expect("the server runs")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stream {
    fn held(&self) -> Vec<(i32, u64)> {
        let trusted = self.hello.held.iter().filter(|held| !held.digest.is_empty());
        trusted.map(|held| (held.ns, held.revision)).collect()
    }

    async fn say(&self, messages: Vec<ControlMessage>) {
        for message in messages {
            self.to_node.send(Ok(message)).await.expect("the node listens");
        }
    }

    async fn answer(&mut self) -> Body {
        loop {
            let message = timeout(PATIENCE, self.from_node.message()).await.expect("an answer");
            match message.expect("no error").expect("no end").body.expect("a body") {
                Body::Status(_) => {}
                body => return body,
            }
        }
    }

    async fn ack(&mut self) -> Ack {
        match self.answer().await {
            Body::Ack(ack) => ack,
            other => panic!("not an ack: {other:?}"),
        }
    }

    async fn nack(&mut self) -> Nack {
        match self.answer().await {
            Body::Nack(nack) => nack,
            other => panic!("not a nack: {other:?}"),
        }
    }
}

/// A follower as the server makes it.
struct Node {
    follower: Follower,
    cell: SnapshotCell,
    progress: Progress,
    falls: Falls,
    boot_id: String,
}

fn node(control_planes: &[&Uri], dir: Option<&Path>) -> Node {
    named("n1", control_planes, dir)
}

fn named(node_id: &str, control_planes: &[&Uri], dir: Option<&Path>) -> Node {
    let environment = Id::parse("default").expect("an id");
    let node_id = Id::parse(node_id).expect("an id");
    let identity = Arc::new(Identity::of_this_boot(environment.clone(), node_id));
    let cell = SnapshotCell::default();
    let (falls, fallen) = falls();
    let boot_id = identity.boot_id.to_string();
    let follower = Follower::restore(Parts {
        identity: identity.clone(),
        settings: Arc::new(Settings {
            labels: Labels::parse(["tier=canary"]).expect("labels"),
            ..Settings::new(environment.clone(), identity.node_id.clone())
        }),
        control_planes: control_planes.iter().copied().cloned().collect::<Vec<_>>().into(),
        cell: cell.clone(),
        limiter: Limiter::new(&environment, None).expect("no URL"),
        audit: Shipper::new(
            identity,
            Vec::new().into(),
            NonZeroUsize::MIN,
            None,
            Onward::default(),
        )
        .ledger(),
        workers: Vec::new(),
        fallen,
        state_dir: dir.map(open).map(Arc::new),
    });
    let progress = follower.progress();
    Node { follower, cell, progress, falls, boot_id }
}

/// The node before may still be letting go of it.
fn open(dir: &Path) -> StateDir {
    let start = Instant::now();
    loop {
        match StateDir::open(dir, Id::parse("default").expect("an id")) {
            Ok(dir) => return dir,
            Err(fault) => assert!(start.elapsed() < PATIENCE, "{fault}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn holding(revision: u64, entities: &[Entity]) -> Holding {
    let mut holding = Holding::empty("e1", revision);
    for entity in entities {
        holding.upsert(entity);
    }
    holding
}

/// A directory whose previous generation is revision 5 and whose newest is 6.
fn saved() -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = open(temp.path());
    for revision in [5, 6] {
        for (ns, entity) in [(KEYS, key(1, "app")), (CONFIG, route(1, "http://a"))] {
            dir.save(ns, &holding(revision, &[entity]), Newest::Keep).expect("saves");
        }
    }
    temp
}

fn revisions(cell: &SnapshotCell) -> Option<(u64, u64)> {
    cell.load().map(|snapshot| (snapshot.keys_revision, snapshot.config_revision))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn last_delta(ns: Namespace, from: u64, to: u64) -> Vec<ControlMessage> {
    let old = match ns {
        Namespace::Keys => key(1, "app"),
        Namespace::Config => route(1, "http://a"),
    };
    vec![message(Said::Delta(delta(ns, from, to, vec![delete(&old)], &[])))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_serves_from_disk_and_goes_on_with_a_delta() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut control_plane = ControlPlane::start().await;
    let first = node(&[&control_plane.uri], Some(temp.path()));
    assert!(first.progress.waiting_for().expect("a reason").starts_with("no keys and no config"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(first.follower.run(stop.clone()));
    let mut stream = control_plane.stream().await;
    assert!(stream.hello.held.is_empty());
    stream.say(snapshot(KEYS, 5, &[key(1, "app")])).await;
    assert_eq!(stream.ack().await.revision, 5);
    assert_eq!(revisions(&first.cell), None, "half a state serves nothing");
    stream.say(snapshot(CONFIG, 3, &[route(1, "http://a")])).await;
    assert_eq!(stream.ack().await.revision, 3);
    assert_eq!(revisions(&first.cell), Some((5, 3)));
    assert_eq!(first.progress.waiting_for(), None);
    assert_eq!(first.progress.counts(KEYS).snapshots, 1);
    stop.cancel();
    running.await.expect("ends");

    // No control plane yet: it serves all the same.
    let second = node(&[&control_plane.uri], Some(temp.path()));
    assert_eq!(revisions(&second.cell), Some((5, 3)));
    let running = tokio::spawn(second.follower.run(CancellationToken::new()));
    let mut stream = control_plane.stream().await;
    assert_eq!(stream.held(), [(1, 5), (2, 3)]);
    let sent = delta(KEYS, 5, 6, vec![upsert(key(2, "web"))], &[key(1, "app"), key(2, "web")]);
    stream.say(vec![message(Said::Delta(sent))]).await;
    assert_eq!(stream.ack().await.revision, 6);
    let counts = second.progress.counts(KEYS);
    assert_eq!((counts.snapshots, counts.deltas, counts.revision), (0, 1, 6));
    // Killed, soon after but not at once: the delta is on disk.
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.abort();
    assert!(running.await.is_err());
    assert_eq!(revisions(&node(&[], Some(temp.path())).cell), Some((6, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_newest_state_falls_back_and_two_damaged_ones_to_nothing() {
    let temp = saved();
    for (damage, left) in
        [("keys.state", Some((5, 6))), ("config.state", Some((5, 5))), ("keys.previous", None)]
    {
        let path = temp.path().join(damage);
        let mut file = fs::read(&path).expect("reads");
        let middle = file.len() / 2;
        file[middle] ^= 1;
        fs::write(&path, file).expect("writes");
        assert_eq!(revisions(&node(&[], Some(temp.path())).cell), left, "{damage}");
        // The node lived on: what comes next is no third death.
        drop(fs::remove_file(temp.path().join("config.attempt")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_that_killed_two_starts_is_put_aside_and_keys_are_not() {
    let temp = saved();
    for _ in 0..2 {
        // It takes revision 6 into use and dies.
        assert_eq!(revisions(&node(&[], Some(temp.path())).cell), Some((6, 6)));
    }
    let mut control_plane = ControlPlane::start().await;
    let third = node(&[&control_plane.uri], Some(temp.path()));
    assert_eq!(revisions(&third.cell), Some((6, 5)));
    let stop = CancellationToken::new();
    let running = tokio::spawn(third.follower.run(stop.clone()));
    let mut stream = control_plane.stream().await;
    assert_eq!(stream.held(), [(1, 6), (2, 5)]);
    let refused = stream.hello.refused.iter().filter_map(|refusal| refusal.nack.as_ref());
    assert_eq!(refused.map(|nack| nack.revision).collect::<Vec<_>>(), [6], "not to be sent again");
    stream.say(last_delta(CONFIG, 5, 6)).await;
    let nack = stream.nack().await;
    assert!(nack.errors[0].message.contains("died twice"), "{nack:?}");
    stream.say(last_delta(CONFIG, 5, 7)).await;
    assert_eq!(stream.ack().await.revision, 7);
    assert_eq!(revisions(&third.cell), Some((6, 7)));
    stop.cancel();
    running.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_put_aside_is_tried_again_from_disk_and_asked_for_anew() {
    let temp = saved();
    for _ in 0..2 {
        node(&[], Some(temp.path()));
    }
    let mut control_plane = ControlPlane::start().await;
    let mut third = node(&[&control_plane.uri], Some(temp.path()));
    assert_eq!(revisions(&third.cell), Some((6, 5)));
    third.follower.end_wait();
    let cell = third.cell.clone();
    tokio::spawn(third.follower.run(CancellationToken::new()));
    // The first status of the first stream brings it about.
    drop(control_plane.stream().await);
    until("revision 6 is in force", || revisions(&cell) == Some((6, 6))).await;
    until("nothing is put aside", || !temp.path().join("config.attempt").exists()).await;
}

/// Has something panic.
fn panic_of(node: &Falls, fall: Fall) {
    let guard = node.guard(move || fall);
    let panics = move || {
        let _guard = guard;
        panic::resume_unwind(Box::new("on purpose"));
    };
    assert!(panic::catch_unwind(AssertUnwindSafe(panics)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_that_requests_panic_of_is_taken_back_and_refused() {
    let temp = saved();
    let mut control_plane = ControlPlane::start().await;
    let node = node(&[&control_plane.uri], Some(temp.path()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(node.follower.run(stop.clone()));
    let mut stream = control_plane.stream().await;
    stream.say(last_delta(CONFIG, 6, 7)).await;
    assert_eq!(stream.ack().await.revision, 7);
    panic_of(&node.falls, Fall::Connection(7));
    stream.say(last_delta(KEYS, 6, 7)).await;
    assert_eq!(stream.ack().await.revision, 7);
    assert_eq!(revisions(&node.cell), Some((7, 7)), "once is chance");
    panic_of(&node.falls, Fall::Connection(7));

    let mut stream = control_plane.stream().await;
    assert_eq!(stream.held(), [(1, 7), (2, 6)]);
    let nack = stream.hello.refused[0].nack.clone().expect("a refusal");
    assert_eq!(nack.revision, 7);
    assert!(nack.errors[0].message.contains("panic"), "{nack:?}");
    assert_eq!(revisions(&node.cell), Some((7, 6)));
    assert!(node.progress.refused_config().is_some_and(|told| told.starts_with("revision 7: ")));
    stream.say(last_delta(CONFIG, 6, 8)).await;
    assert_eq!(stream.ack().await.revision, 8);
    assert_eq!(node.progress.refused_config(), None);
    stop.cancel();
    running.await.expect("ends");
    assert_eq!(revisions(&self::node(&[], Some(temp.path())).cell), Some((7, 8)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_is_a_death_however_orderly_the_process_ends() {
    let temp = saved();
    let note = temp.path().join("config.attempt");
    let mut control_plane = ControlPlane::start().await;
    for dies in [true, false] {
        let node = node(&[&control_plane.uri], Some(temp.path()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(node.follower.run(stop.clone()));
        let mut stream = control_plane.stream().await;
        if dies {
            stream.say(last_delta(CONFIG, 6, 7)).await;
            assert_eq!(stream.ack().await.revision, 7);
            panic_of(&node.falls, Fall::Worker);
        }
        stop.cancel();
        running.await.expect("ends");
        let left = fs::read_to_string(&note).unwrap_or_default();
        assert_eq!(left, if dies { "attempt 7 0 e1\n" } else { "suspect 7 1 e1\n" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_sends_nonsense_is_not_asked_all_the_time() {
    let temp = saved();
    let mut control_plane = ControlPlane::start().await;
    let node = node(&[&control_plane.uri], Some(temp.path()));
    tokio::spawn(node.follower.run(CancellationToken::new()));
    let began = Instant::now();
    for _ in 0..5 {
        let stream = control_plane.stream().await;
        stream.say(vec![ControlMessage { body: None }]).await;
    }
    // After 0.1, 0.2, 0.4 and 0.8 seconds, each up to half shorter.
    assert!(began.elapsed() >= Duration::from_millis(750), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_config_is_nacked_and_keys_go_on() {
    let temp = saved();
    let mut control_plane = ControlPlane::start().await;
    let node = node(&[&control_plane.uri], Some(temp.path()));
    tokio::spawn(node.follower.run(CancellationToken::new()));
    let mut stream = control_plane.stream().await;
    let bad = route(2, "ftp://x");
    let sent = delta(CONFIG, 6, 7, vec![upsert(bad.clone())], &[route(1, "http://a"), bad]);
    stream.say(vec![message(Said::Delta(sent))]).await;
    assert_eq!(stream.nack().await.errors[0].field, "targets[0].url");
    stream.say(last_delta(KEYS, 6, 7)).await;
    assert_eq!(stream.ack().await.revision, 7);
    assert_eq!(revisions(&node.cell), Some((7, 6)));
    assert_eq!(node.progress.counts(CONFIG).nacks, 1);
}

/// A control plane of version 1 has nodes make limits full, which others would undo.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_would_not_last_is_declined() {
    let temp = saved();
    let mut control_plane = ControlPlane::start().await;
    let node = node(&[&control_plane.uri], Some(temp.path()));
    tokio::spawn(node.follower.run(CancellationToken::new()));
    let mut stream = control_plane.stream().await;
    let question = include_bytes!("../../../proto/tests/v1/question_limits.bin");
    stream.say(vec![ControlMessage::decode(&question[..]).expect("a message")]).await;
    let Body::Answer(answer) = stream.answer().await else { panic!("no answer") };
    assert_eq!(answer.told, None);
    assert!(answer.fault.contains("bring it up to date"), "{}", answer.fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_that_differs_asks_for_a_snapshot_of_that_half_alone() {
    let temp = saved();
    let mut control_plane = ControlPlane::start().await;
    let node = node(&[&control_plane.uri], Some(temp.path()));
    tokio::spawn(node.follower.run(CancellationToken::new()));
    let stream = control_plane.stream().await;
    let sent = delta(KEYS, 6, 7, vec![], &[key(9, "unknown here")]);
    stream.say(vec![message(Said::Delta(sent))]).await;
    let mut stream = control_plane.stream().await;
    assert_eq!(stream.held(), [(2, 6)]);
    assert_eq!(revisions(&node.cell), Some((6, 6)), "what it has is still served");
    stream.say(snapshot(KEYS, 7, &[key(9, "now known")])).await;
    assert_eq!(stream.ack().await.revision, 7);
    assert_eq!(revisions(&node.cell), Some((7, 6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_control_plane_is_tried_when_one_is_away_or_leaves() {
    let nobody: Uri = "http://127.0.0.1:1".parse().expect("a URL");
    let mut one = ControlPlane::start().await;
    let mut other = ControlPlane::start().await;
    let node = node(&[&nobody, &one.uri, &other.uri], None);
    tokio::spawn(node.follower.run(CancellationToken::new()));
    let stream = one.stream().await;
    let beat = Heartbeat { keys_revision: 8, config_revision: 9, node_count: 2 };
    stream.say(vec![message(Said::Heartbeat(beat))]).await;
    until("connected", || node.progress.connected()).await;
    assert_eq!((node.progress.counts(KEYS).head, node.progress.counts(CONFIG).head), (8, 9));
    stream.say(vec![message(Said::Drain(Drain {}))]).await;
    let _second = other.stream().await;
    assert!(!node.progress.connected(), "nothing was heard of it yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_what_is_missing_and_why() {
    let nobody: Uri = "http://127.0.0.1:1".parse().expect("a URL");
    let unreachable = node(&[&nobody], None);
    tokio::spawn(unreachable.follower.run(CancellationToken::new()));
    let reason = || unreachable.progress.waiting_for().expect("a reason");
    until("the reason", || reason().contains("http://127.0.0.1:1/ can't be reached")).await;
    assert!(reason().contains("refused"), "{}", reason());

    let alone = node(&[], None);
    tokio::spawn(alone.follower.run(CancellationToken::new()));
    let reason = || alone.progress.waiting_for().expect("a reason");
    until("the reason", || reason().contains("no control plane is set")).await;

    let mut control_plane = ControlPlane::start().await;
    let refusing = node(&[&control_plane.uri], None);
    tokio::spawn(refusing.follower.run(CancellationToken::new()));
    let mut stream = control_plane.stream().await;
    stream.say(snapshot(KEYS, 1, &[])).await;
    stream.ack().await;
    stream.say(snapshot(CONFIG, 1, &[route(1, "ftp://x")])).await;
    stream.nack().await;
    let reason = || refusing.progress.waiting_for().expect("a reason");
    let expected = "no config yet: refused config revision 1: route r1: targets[0].url: ";
    until("the reason", || reason().starts_with(expected)).await;
}
