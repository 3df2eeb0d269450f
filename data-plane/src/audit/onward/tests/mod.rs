//! Sinks on real files, on a collector in miniature that fails on purpose, and on a real NATS.

mod nats;
mod tls;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::SocketAddr,
    num::NonZeroUsize,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use fastgate::{
    admin::v1::{LogEvent, RecordedBody, RecordedHeader},
    model::Id,
    node::v1::Batch,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle, time::Duration};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use super::{file::Writer, *};
use crate::audit::batch::Sealed;

/// What clients may have sent.
const HOSTILE: &str = "a\r\nb\u{1b}[31m\u{2028}\"\\\u{fffd}";

fn log_event(number: u64) -> LogEvent {
    LogEvent {
        timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        request_id: format!("request-{number}"),
        method: "GET".into(),
        path: format!("/{HOSTILE}"),
        status_code: 404,
        response_time_ms: 1.5,
        user_agent: HOSTILE.into(),
        ip_address: "192.0.2.1".into(),
        environment: "default".into(),
        node_id: "n1".into(),
        error: "no_route".into(),
        request_headers: [("x-a", HOSTILE), ("x-b", "1"), ("x-a", "2")]
            .map(|(name, value)| RecordedHeader { name: name.into(), value: value.into() })
            .into(),
        request_body: Some(RecordedBody {
            truncated: true,
            text: "{".into(),
            ..Default::default()
        }),
        response_body: Some(RecordedBody { omitted: "not_json".into(), ..Default::default() }),
        response_end: "client_gone".into(),
        response_chunks: 3,
        ..Default::default()
    }
}

/// A batch of so many events behind others.
fn batch(boot: Uuid, first_seq: u64, events: u64) -> Sealed {
    batch_of(boot, first_seq, (first_seq..first_seq + events).map(log_event).collect())
}

fn batch_of(boot: Uuid, first_seq: u64, log_events: Vec<LogEvent>) -> Sealed {
    let events = log_events.len() as u64;
    let wire = Batch {
        node_id: "n1".into(),
        boot_id: boot.to_string(),
        environment: "default".into(),
        first_seq,
        events: log_events,
        counted: Vec::new(),
        gaps: Vec::new(),
    };
    Sealed { boot, from: first_seq, first_seq, events, encoded: wire.encode_to_vec().into() }
}

fn events_of(first_seq: u64, events: u64) -> Events {
    Events::decode(&batch(Uuid::nil(), first_seq, events)).expect("a batch")
}

fn writer(path: &Path, size: u64, keep: usize) -> Writer {
    let target = FileTarget::Path(path.to_owned());
    Writer::new(FileSettings { target, size, keep: NonZeroUsize::new(keep).expect("some") })
}

fn write(writer: &mut Writer, events: &Events) {
    let mut at = 0;
    writer.write(events, &mut at).expect("written");
    assert_eq!(at, events.len());
}

/// The numbers of the events in a file, each of which is a line of JSON.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).expect("text");
    assert!(text.is_empty() || text.ends_with('\n'));
    let line = |line: &str| {
        let read: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(read["user_agent"], HOSTILE);
        assert_eq!(
            (&read["node_id"], &read["boot_id"]),
            (&"n1".into(), &Uuid::nil().to_string().into())
        );
        read["seq"].as_u64().expect("a number")
    };
    text.split_terminator('\n').map(line).collect()
}

#[test]
fn a_line_is_an_event_whatever_was_sent_and_nobody_else_may_read_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("audit.jsonl");
    write(&mut writer(&path, 1 << 20, 1), &events_of(7, 3));
    assert_eq!(numbers(&path), [7, 8, 9]);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn files_are_put_aside_at_their_size_and_so_many_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("audit.jsonl");
    let aside = |number: usize| dir.path().join(format!("audit.jsonl.{number}"));
    let mut writer = writer(&path, 64 << 10, 3);
    // Batches that are larger than a file, and smaller.
    for first in (0..2000).step_by(500) {
        write(&mut writer, &events_of(first, 500));
    }
    (2000..2010).for_each(|first| write(&mut writer, &events_of(first, 1)));
    let mut found = Vec::new();
    for path in [aside(3), aside(2), aside(1), path.clone()] {
        assert!(fs::metadata(&path).expect("there").len() <= 64 << 10, "{path:?}");
        found.extend(numbers(&path));
    }
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 4);
    let first = found[0];
    assert_eq!(found, (first..2010).collect::<Vec<_>>(), "in order, without a gap");
    assert!(first > 0, "the oldest are gone");
    // One that is larger than a file has one for itself.
    let mut tiny = super::tests::writer(&dir.path().join("tiny"), 10, 2);
    write(&mut tiny, &events_of(0, 3));
    assert_eq!(numbers(&dir.path().join("tiny.1")), [1]);
}

#[test]
fn a_file_that_was_moved_is_begun_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved"));
    let mut writer = writer(&path, 1 << 20, 1);
    write(&mut writer, &events_of(0, 2));
    fs::rename(&path, &moved).expect("moved");
    write(&mut writer, &events_of(2, 2));
    fs::remove_file(&path).expect("removed");
    write(&mut writer, &events_of(4, 2));
    assert_eq!((numbers(&moved), numbers(&path)), (vec![0, 1], vec![4, 5]));
}

#[test]
fn a_line_that_was_cut_off_at_any_byte_is_written_once_more_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("audit.jsonl");
    write(&mut writer(&path, 1 << 20, 1), &events_of(0, 2));
    let whole = fs::read(&path).expect("read");
    let first = whole.iter().position(|byte| *byte == b'\n').expect("an end") + 1;
    for cut in first..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        write(&mut writer(&path, 1 << 20, 1), &events_of(1, 2));
        assert_eq!(numbers(&path), [0, 1, 2], "cut at {cut}");
    }
    // What is not ours is left.
    fs::write(&path, "mine").expect("written");
    write(&mut writer(&path, 1 << 20, 1), &events_of(0, 1));
    let text = fs::read_to_string(&path).expect("text");
    assert!(text.starts_with("mine\n{\"timestamp\":"), "{text}");
}

#[test]
fn a_full_disk_leaves_no_half_of_a_line() {
    let mut writer = writer(Path::new("/dev/full"), 1 << 20, 1);
    let mut at = 0;
    let fault = writer.write(&events_of(0, 2), &mut at).expect_err("full");
    assert_eq!((fault.kind(), at), (std::io::ErrorKind::StorageFull, 0));
}

/// A collector that keeps what it takes.
#[derive(Clone, Default)]
struct Kept {
    requests: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    answers: Arc<Mutex<Vec<Answer>>>,
    limits: Option<Limits>,
    calls: Arc<AtomicUsize>,
}

/// A request with more records than this is too large, and one with such a record invalid.
#[derive(Clone, Copy)]
struct Limits {
    records: usize,
    invalid: &'static str,
}

/// What it does with the next request in place of taking it.
enum Answer {
    Refuse(Status),
    TakeAllBut(i64),
    /// Takes it, and the answer is lost.
    Forget,
}

#[tonic::async_trait]
impl LogsService for Kept {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let next = self.answers.lock().expect("no panic").pop();
        if let Some(Answer::Refuse(status)) = next {
            return Err(status);
        }
        let request = request.into_inner();
        self.limits.map_or(Ok(()), |limits| limits.check(&request))?;
        self.requests.lock().expect("no panic").push(request);
        let partial_success = match next {
            Some(Answer::Forget) => return Err(Status::unavailable("on purpose")),
            Some(Answer::TakeAllBut(rejected_log_records)) => {
                let error_message = "on purpose".into();
                Some(ExportLogsPartialSuccess { rejected_log_records, error_message })
            }
            _ => None,
        };
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

impl Limits {
    fn check(self, request: &ExportLogsServiceRequest) -> Result<(), Status> {
        let records = &request.resource_logs[0].scope_logs[0].log_records;
        if records.len() > self.records {
            return Err(Status::resource_exhausted("Received message larger than max"));
        }
        let ids = records.iter().map(|it| read(&it.attributes)["fastgate.request_id"].clone());
        match ids.into_iter().any(|id| id == self.invalid) {
            true => Err(Status::invalid_argument("bad record")),
            false => Ok(()),
        }
    }
}

impl Kept {
    async fn serve_on(&self, address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
        self.serve_by(Server::builder(), address).await
    }

    async fn serve_by(
        &self,
        mut server: Server,
        address: SocketAddr,
    ) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let server = server.add_service(LogsServiceServer::new(self.clone()));
        let served = server.serve_with_incoming(TcpListenerStream::new(listener));
        (address, tokio::spawn(async { served.await.expect("serves") }))
    }

    fn records(&self) -> Vec<LogRecord> {
        let requests = self.requests.lock().expect("no panic");
        let resources = requests.iter().flat_map(|request| &request.resource_logs);
        let scopes = resources.flat_map(|resource| &resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }

    fn uids(&self) -> Vec<String> {
        self.records()
            .iter()
            .map(|record| read(&record.attributes)["log.record.uid"].clone())
            .collect()
    }
}

fn read(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let read: BTreeMap<_, _> =
        attributes.iter().map(|it| (it.key.clone(), shown(it.value.as_ref()))).collect();
    assert_eq!(read.len(), attributes.len(), "no key twice");
    read
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|it| it.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::ArrayValue(list)) => {
            list.values.iter().map(|value| shown(Some(value))).collect::<Vec<_>>().join(" and ")
        }
        other => panic!("{other:?}"),
    }
}

/// A sink on its task, fed with batches of this boot.
struct Delivery {
    outlet: Arc<Outlet>,
    identity: Arc<Identity>,
    _tasks: JoinSet<()>,
}

impl Delivery {
    fn to(address: SocketAddr) -> Self {
        let url = format!("http://{address}").parse().expect("a URL");
        Self::by(Onward {
            otlp: Some(OtlpSettings { url, ca: None, headers: None }),
            ..Onward::default()
        })
    }

    /// To the one sink that is set.
    fn by(onward: Onward) -> Self {
        let id = |text| Id::parse(text).expect("an id");
        let identity = Arc::new(Identity::of_this_boot(id("default"), id("n1")));
        let kind = onward.kinds()[0];
        let (outlet, mut tasks) = (Arc::new(Outlet::new(kind)), JoinSet::new());
        start(&onward, outlet.clone(), identity.clone(), &mut tasks);
        Self { outlet, identity, _tasks: tasks }
    }

    fn give(&self, first_seq: u64, events: u64) {
        self.push(batch(self.identity.boot_id, first_seq, events));
    }

    fn push(&self, batch: Sealed) {
        self.outlet.window.push(batch, None);
    }

    /// Waits until the sink did not take what it was given.
    async fn fails(&self) {
        let began = Instant::now();
        while self.outlet.errors.load(Relaxed) == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "goes well");
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((self.counts(), self.outlet.is_away.load(Relaxed)), ((0, 0, 0), true));
    }

    async fn done(&self) {
        let began = Instant::now();
        while !self.outlet.window.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "never taken");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn counts(&self) -> (u64, u64, u64) {
        let Outlet { taken, refused, stored, .. } = &*self.outlet;
        (taken.load(Relaxed), refused.load(Relaxed), stored.load(Relaxed))
    }

    fn ids(&self, seqs: std::ops::Range<u64>) -> Vec<String> {
        seqs.map(|seq| format!("n1/{}/{seq}", self.identity.boot_id)).collect()
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_collector_gets_records_by_the_semantic_conventions() {
    let kept = Kept::default();
    let (address, _server) = kept.serve_on(loopback()).await;
    let delivery = Delivery::to(address);
    delivery.give(7, 1);
    delivery.done().await;
    let requests = kept.requests.lock().expect("no panic").clone();
    let resource = requests[0].resource_logs[0].resource.clone().expect("one");
    let resource = read(&resource.attributes);
    for (name, value) in [
        ("service.name", "fastgate"),
        ("service.instance.id", "n1"),
        ("deployment.environment.name", "default"),
    ] {
        assert_eq!(resource[name], value, "{name}");
    }
    let record = &kept.records()[0];
    assert_eq!(record.time_unix_nano, 1_700_000_000_000_000_005);
    assert_eq!(record.observed_time_unix_nano, record.time_unix_nano + 1_500_000);
    assert_eq!((record.severity_text.as_str(), record.severity_number), ("WARN", 13));
    let body =
        read(&[KeyValue { key: "body".into(), value: record.body.clone(), ..Default::default() }]);
    assert!(!body["body"].contains(char::is_control), "{body:?}");
    let attributes = read(&record.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "404"),
        ("url.path", &format!("/{HOSTILE}")),
        ("user_agent.original", HOSTILE),
        ("client.address", "192.0.2.1"),
        ("error.type", "no_route"),
        ("fastgate.request_id", "request-7"),
        ("fastgate.seq", "7"),
        ("fastgate.response_chunks", "3"),
        ("fastgate.response_end", "client_gone"),
        ("http.request.header.x-a", &format!("{HOSTILE} and 2")),
        ("http.request.header.x-b", "1"),
        ("fastgate.request_body.text", "{"),
        ("fastgate.request_body.truncated", "true"),
        ("fastgate.response_body.omitted", "not_json"),
        ("log.record.uid", &delivery.ids(7..8)[0]),
    ] {
        assert_eq!(attributes[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_collector_that_comes_and_goes_gets_every_event_in_order() {
    let kept = Kept::default();
    let (address, server) = kept.serve_on(loopback()).await;
    let delivery = Delivery::to(address);
    delivery.give(0, 10);
    delivery.done().await;
    server.abort();
    drop(server.await);
    // Its connections end with the runtime's task alone: what was open is refused first.
    let later = ErrorDetails::with_retry_info(Some(Duration::from_millis(300)));
    let later = Status::with_error_details(Code::ResourceExhausted, "later", later);
    kept.answers.lock().expect("no panic").extend([
        Answer::Refuse(later),
        Answer::Forget,
        Answer::Refuse(Status::unauthenticated("not yet")),
    ]);
    // More than a request takes.
    delivery.give(10, 1200);
    delivery.give(1210, 5);
    sleep(Duration::from_millis(200)).await;
    let (_, _server) = kept.serve_on(address).await;
    let began = Instant::now();
    delivery.done().await;
    assert!(
        began.elapsed() > Duration::from_millis(300),
        "it was left alone for as long as it asks"
    );
    assert_eq!(delivery.counts(), (1215, 0, 1215));
    assert!(delivery.outlet.errors.load(Relaxed) >= 3);
    let uids = kept.uids();
    let mut seen = HashSet::new();
    let once: Vec<_> = uids.iter().filter(|uid| seen.insert(*uid)).cloned().collect();
    assert_eq!(once, delivery.ids(0..1215), "in order, once each by their ids");
    assert_eq!(uids.len(), 1215 + 512, "what was under way came twice, and nothing else");
}

#[tokio::test]
async fn a_bad_record_costs_itself_alone_and_a_request_too_large_is_halved() {
    let invalid = "request-700";
    for (records, invalid, refused) in [
        (usize::MAX, invalid, 700..701),
        (100, "", 0..0),
        (1, invalid, 700..701),
        // It takes nothing at all.
        (0, "", 0..1200),
    ] {
        let limits = Some(Limits { records, invalid });
        let kept = Kept { limits, ..Kept::default() };
        let (address, _server) = kept.serve_on(loopback()).await;
        let delivery = Delivery::to(address);
        delivery.give(0, 1200);
        delivery.done().await;
        let number = refused.end - refused.start;
        assert_eq!(delivery.counts(), (1200 - number, number, 1200), "{records} {invalid}");
        let mut ids = delivery.ids(0..refused.start);
        ids.extend(delivery.ids(refused.end..1200));
        assert_eq!(kept.uids(), ids, "in order, once each");
        assert_eq!(delivery.outlet.errors.load(Relaxed), 0);
    }
}

#[tokio::test]
async fn what_a_collector_will_never_take_is_counted_and_not_sent_again() {
    let kept = Kept::default();
    let (address, _server) = kept.serve_on(loopback()).await;
    kept.answers.lock().expect("no panic").push(Answer::TakeAllBut(2));
    let delivery = Delivery::to(address);
    delivery.give(0, 10);
    delivery.give(10, 5);
    delivery.give(15, 1);
    delivery.done().await;
    assert_eq!(delivery.counts(), (14, 2, 16));
    assert_eq!(kept.calls.load(SeqCst), 3);
}
