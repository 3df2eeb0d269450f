//! A listening node with config put straight into it, an upstream that follows a script, and a
//! client that writes bytes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastgate::{
    admin::v1::{ExplainRequest, Explanation, Route, Target},
    model::Id,
    node::v1::{Entity, EntityKind, KeyRecord, SecretRecord},
    secret::{Kind, Secret},
};
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::{
    Server, Settings,
    audit::{Event, Tap},
    compile::Compiler,
    explain::Explainer,
    limits::Limiter,
    record::Record,
    server::RunError,
    snapshot::SnapshotCell,
};

/// A node that serves; stopped when dropped.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Of the proxy over TLS.
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) ops: SocketAddr,
    pub(crate) compiler: Mutex<Compiler>,
    snapshots: SnapshotCell,
    limiter: Limiter,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<(), RunError>>>,
    events: Mutex<Tap>,
}

impl Node {
    pub(crate) fn start(routes: Vec<Route>, keys: Vec<KeyRecord>) -> Self {
        let node = Self::start_empty(|_| {});
        node.load(routes, keys);
        node
    }

    pub(crate) fn start_empty(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(false, change)
    }

    /// One that can keep no event, without config.
    pub(crate) fn start_full() -> Self {
        Self::start_with(true, |_| {})
    }

    fn start_with(is_full: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let id = |text| Id::parse(text).expect("an id");
        let mut settings = Settings::new(id("default"), id("node-1"));
        settings.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        settings.ops_addr = settings.listen;
        settings.workers = NonZeroUsize::MIN;
        change(&mut settings);
        let mut server = Server::build(settings).expect("free ports");
        let (addresses, snapshots) = (server.addresses(), server.snapshots().clone());
        let limiter = server.limiter().clone();
        let events = Mutex::new(server.tap(is_full));
        let stop = CancellationToken::new();
        let thread = thread::spawn({
            let stop = stop.clone();
            move || server.run(stop)
        });
        let compiler = Mutex::new(Compiler::new(id("default")));
        let (address, tls, ops) = (addresses.proxy, addresses.tls, addresses.ops);
        let thread = Some(thread);
        Self { address, tls, ops, compiler, snapshots, limiter, stop, thread, events }
    }

    pub(crate) fn load(&self, routes: Vec<Route>, keys: Vec<KeyRecord>) {
        let mut compiler = self.compiler.lock().expect("no panic");
        let entities = routes
            .into_iter()
            .map(|route| entity(EntityKind::Route, route.route_id.clone(), route.encode_to_vec()));
        compiler.load_config(entities.collect()).expect("valid routes");
        let kind = EntityKind::Key.into();
        let record = |key: KeyRecord| Record::new(kind, &key.key_id, &key.encode_to_vec());
        let records: Vec<_> = keys.into_iter().map(record).collect();
        assert_eq!(compiler.load_keys(records.len(), &records), []);
        self.snapshots.store(compiler.snapshot(1, 1));
    }

    /// Sends bytes and reads one answer.
    pub(crate) fn send(&self, request: &str) -> Answer {
        self.connect().send(request)
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// What it would do with a request.
    pub(crate) fn explain(&self, request: &ExplainRequest) -> Explanation {
        let id = |text| Id::parse(text).expect("an id");
        let explainer = Explainer {
            node_id: "node-1",
            settings: &Settings::new(id("default"), id("node-1")),
            snapshots: &self.snapshots,
            limiter: &self.limiter,
            has_room: true,
        };
        let pending = explainer.begin(request, None).expect("can be understood");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(pending.finish())
    }

    /// The next audit event.
    pub(crate) fn event(&self) -> Event {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(event) = self.events.lock().expect("no panic").pop() {
                return event;
            }
            assert!(Instant::now() < patience, "no event came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Audit events so far, and how many of them were dropped.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let counts = self.events.lock().expect("no panic").counts();
        (counts.produced(), counts.dropped())
    }

    /// Heap allocations of the worker up to the event that was recorded last.
    pub(crate) fn allocations(&self) -> u64 {
        self.events.lock().expect("no panic").allocations()
    }

    /// Whether every audit event was taken.
    pub(crate) fn has_no_event(&self) -> bool {
        self.events.lock().expect("no panic").pop().is_none()
    }

    /// Asks the ops port.
    pub(crate) fn ops(&self, path: &str) -> Answer {
        Client::to(self.ops).send(&get(path, ""))
    }

    /// Asks the node to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.stop.cancel();
        let thread = self.thread.take().expect("running");
        thread.join().expect("no panic").expect("a clean end");
    }

    /// Asks the node to stop.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

pub(crate) fn entity(kind: EntityKind, id: String, value: Vec<u8>) -> Entity {
    Entity { kind: kind.into(), id, value: value.into() }
}

/// A route for everything below a prefix.
pub(crate) fn route(id: &str, prefix: &str, upstream: &Upstream) -> Route {
    Route {
        route_id: id.into(),
        path_prefix: prefix.into(),
        targets: vec![upstream.target()],
        ..Default::default()
    }
}

/// A key with these permissions, and its secret.
pub(crate) fn key(id: &str, permissions: &[&str]) -> (KeyRecord, String) {
    let secret = Secret::generate(Kind::ApiKey).expect("random bytes");
    let record = KeyRecord {
        key_id: id.into(),
        source_path: "mobile_app".into(),
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
        is_active: true,
        rate_limit: Some(1_000_000),
        secrets: vec![SecretRecord {
            version: 1,
            hash: secret.hash().as_bytes().to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    (record, secret.expose().to_owned())
}

/// A client's end of one connection.
pub(crate) struct Client<S = TcpStream>(BufReader<S>);

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a listening node");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn write(&mut self, bytes: &str) {
        // The other side may have refused already.
        drop(self.0.get_mut().write_all(bytes.as_bytes()));
    }

    pub(crate) fn send(&mut self, request: &str) -> Answer {
        self.write(request);
        self.read(request.starts_with("HEAD"))
    }

    /// Reads one answer.
    pub(crate) fn read(&mut self, to_head: bool) -> Answer {
        let Raw { first, headers, body } = read_message(&mut self.0, to_head, true);
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer { status: status.unwrap_or(0), headers, body }
    }

    /// Whether the other side closes now.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }

    pub(crate) fn stream(&mut self) -> &mut BufReader<S> {
        &mut self.0
    }
}

/// What a client was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0: nothing that can be read.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// What an upstream was sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `GET /path HTTP/1.1`.
    pub(crate) first: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A server that answers every request as its script says.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<usize>>,
}

/// Writes an answer; returns whether the connection goes on.
type Script = dyn Fn(&Received, &mut TcpStream) -> bool + Send + Sync;

impl Upstream {
    /// Answers 200 with "hello".
    pub(crate) fn hello() -> Self {
        Self::scripted(|_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_ok()
        })
    }

    pub(crate) fn scripted(
        script: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn({
            let (received, connections) = (received.clone(), connections.clone());
            move || {
                for stream in listener.incoming().flatten() {
                    *connections.lock().expect("no panic") += 1;
                    let (received, script) = (received.clone(), script.clone());
                    thread::spawn(move || converse(stream, &received, &*script));
                }
            }
        });
        Self { address, received, connections }
    }

    pub(crate) fn target(&self) -> Target {
        Target { url: format!("http://{}", self.address), ..Default::default() }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("a request")
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic")
    }
}

/// An address nothing listens on.
pub(crate) fn dead_target() -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    Target { url: format!("http://{address}"), ..Default::default() }
}

fn converse(stream: TcpStream, received: &Mutex<Vec<Received>>, script: &Script) {
    let mut reader = BufReader::new(stream);
    loop {
        let Raw { first, headers, body } = read_message(&mut reader, false, false);
        if first.is_empty() {
            return;
        }
        let request = Received { first, headers, body };
        received.lock().expect("no panic").push(request.clone());
        if !script(&request, reader.get_mut()) {
            return;
        }
    }
}

struct Raw {
    first: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn read_message(reader: &mut impl BufRead, no_body: bool, to_end: bool) -> Raw {
    let mut line = String::new();
    let mut next = |reader: &mut dyn BufRead| {
        line.clear();
        drop(reader.read_line(&mut line));
        line.trim_end().to_owned()
    };
    let first = next(reader);
    let mut headers = Vec::new();
    loop {
        let line = next(reader);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut body = Vec::new();
    let length = find(&headers, "content-length").and_then(|length| length.parse().ok());
    if no_body || first.is_empty() || first.contains(" 204") || first.contains(" 304") {
    } else if find(&headers, "transfer-encoding").is_some() {
        loop {
            let size = u64::from_str_radix(&next(reader), 16).unwrap_or(0);
            drop(reader.take(size).read_to_end(&mut body));
            next(reader);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        drop(reader.take(length).read_to_end(&mut body));
    } else if to_end {
        drop(reader.read_to_end(&mut body));
    }
    Raw { first, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// A GET with these header lines.
pub(crate) fn get(path: &str, headers: &str) -> String {
    let end = if headers.is_empty() { "" } else { "\r\n" };
    format!("GET {path} HTTP/1.1\r\nhost: a.b\r\n{headers}{end}\r\n")
}

/// A route for everything, without a key.
pub(crate) fn open_route(upstream: &Upstream) -> Route {
    Route { auth_required: Some(false), ..route("open", "/", upstream) }
}

/// A node that sends everything to an upstream, without a key.
pub(crate) fn open_node(upstream: &Upstream, change: impl FnOnce(&mut Settings)) -> Node {
    let node = Node::start_empty(change);
    node.load(vec![open_route(upstream)], vec![]);
    node
}
