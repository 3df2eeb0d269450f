//! One control plane of a simulation: what it read of the store, and whom it serves.

use std::{
    collections::BTreeMap,
    mem,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastgate::node::v1::{
    ControlMessage, Hello, NodeMessage,
    config_stream_server::{ConfigStream, ConfigStreamServer},
};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use turmoil::net::TcpListener;

use super::{
    session,
    store::{Log, Position, Store},
};
use crate::sync::Namespace;

/// Where nodes connect.
pub(super) const PORT: u16 = 9001;

/// How soon a replica hears of a commit: by NOTIFY.
const NOTIFIED_AFTER: Duration = Duration::from_millis(20);

/// A control plane, over all its starts.
#[derive(Clone)]
pub(super) struct Replica(Arc<Inner>);

struct Inner {
    store: Arc<Mutex<Store>>,
    state: Mutex<State>,
    /// Something new is known, or it is about to leave.
    moved: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    /// What was read last, keys first; `None`: nothing since it started.
    read: Option<(Duration, [Log; 2])>,
    /// Since when it has known a key as revoked.
    revoked: BTreeMap<u32, Duration>,
    /// The last stream each node opened here, also of starts before: earlier ones end.
    streams: BTreeMap<String, Stream>,
    /// Whether the store is out of its reach.
    pub(super) is_blind: bool,
    /// Whether it loses a change of the next delta.
    pub(super) is_careless: bool,
    /// Whether it is about to leave.
    pub(super) drains: bool,
}

/// A node's stream, as of its Hello.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) number: u64,
    pub(super) since: Duration,
    pub(super) hello: Hello,
    /// What the node says it holds, keys first.
    pub(super) held: [Option<Position>; 2],
}

impl Replica {
    pub(super) fn new(store: &Arc<Mutex<Store>>) -> Self {
        let (store, state) = (Arc::clone(store), Mutex::default());
        Self(Arc::new(Inner { store, state, moved: watch::Sender::new(()) }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it runs from start to end.
    pub(super) async fn run(self) -> turmoil::Result {
        let State { is_blind, streams, .. } = mem::take(&mut *self.state());
        *self.state() = State { is_blind, streams, ..State::default() };
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        tokio::select! {
            biased;
            never = self.read_on() => never,
            ended = self.accept(listener) => ended,
        }
    }

    async fn accept(&self, listener: TcpListener) -> turmoil::Result {
        let service = ConfigStreamServer::new(self.clone());
        loop {
            let (stream, _) = listener.accept().await?;
            let service = TowerToHyperService::new(service.clone());
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.timer(TokioTimer::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn read_on(&self) -> turmoil::Result {
        loop {
            self.read();
            sleep(NOTIFIED_AFTER).await;
        }
    }

    fn read(&self) {
        let mut state = self.state();
        if state.drains {
            self.0.moved.send_replace(());
        }
        if state.is_blind {
            return;
        }
        let store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        let logs = Namespace::ALL.map(|ns| store.log(ns));
        let now = now();
        let are_known = |read: &[Log; 2]| read.iter().zip(logs).all(|(one, new)| one.at == new.at);
        let is_new = state.read.as_ref().is_none_or(|(_, read)| !are_known(read));
        if !is_new {
            if let Some((at, _)) = &mut state.read {
                *at = now;
            }
            return;
        }
        state.read = Some((now, logs.map(Clone::clone)));
        for (n, _) in store.keys().filter(|(_, is_active)| !is_active) {
            state.revoked.entry(n).or_insert(now);
        }
        self.0.moved.send_replace(());
    }

    pub(super) fn moved(&self) -> watch::Receiver<()> {
        self.0.moved.subscribe()
    }

    /// Notes a node's new stream; its number.
    pub(super) fn open(&self, hello: Hello, held: [Option<Position>; 2]) -> u64 {
        self.check(&hello.node_id, held);
        let mut state = self.state();
        let number = state.streams.get(&hello.node_id).map_or(0, |last| last.number) + 1;
        let stream = Stream { number, since: now(), hello, held };
        state.streams.insert(stream.hello.node_id.clone(), stream);
        self.0.moved.send_replace(());
        number
    }

    /// Notes what a node acknowledged.
    pub(super) fn note_held(&self, node_id: &str, held: [Option<Position>; 2]) {
        self.check(node_id, held);
        if let Some(stream) = self.state().streams.get_mut(node_id) {
            stream.held = held;
        }
    }

    /// What a node holds was committed.
    fn check(&self, node_id: &str, held: [Option<Position>; 2]) {
        let store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        for (ns, held) in Namespace::ALL.into_iter().zip(held) {
            let is_known = held.is_none_or(|held| store.has_committed(ns, &held));
            assert!(is_known, "{node_id} holds {ns:?} that never were: {held:?}");
        }
    }
}

impl State {
    /// What is known of a namespace.
    pub(super) fn log(&self, ns: Namespace) -> Option<&Log> {
        let (_, [keys, config]) = self.read.as_ref()?;
        Some(if ns == Namespace::Keys { keys } else { config })
    }

    /// Whether the store was read after that.
    pub(super) fn has_read_since(&self, then: Duration) -> bool {
        self.read.as_ref().is_some_and(|(at, _)| *at > then)
    }

    /// The last stream of a node.
    pub(super) fn stream(&self, node_id: &str) -> Option<&Stream> {
        self.streams.get(node_id)
    }

    /// Since when it has known a key as revoked.
    pub(super) fn revoked_since(&self, n: u32) -> Option<Duration> {
        self.revoked.get(&n).copied()
    }
}

/// The time of the simulation.
pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().expect("is simulated")
}

#[tonic::async_trait]
impl ConfigStream for Replica {
    type SyncStream = ReceiverStream<Result<ControlMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        // One at a time, as there is room: nothing is on its way that is not the latest.
        let (to_node, messages) = mpsc::channel(1);
        let replica = self.clone();
        tokio::spawn(async move {
            let served = session::serve(replica, request.into_inner(), to_node.clone()).await;
            if let Err(status) = served {
                drop(to_node.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
