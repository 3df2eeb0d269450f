//! The feed as nodes see it: the real services on a loopback port, on a real SQLite store.

mod burst;
mod hello;
mod life;
mod model;
mod plans;
mod random;
mod refusal;
mod replicas;
mod resume;
mod skew;
mod slow;
mod staging;

use std::{net::SocketAddr, sync::Arc};

use fastgate::{
    admin::v1,
    node::v1::{
        ControlMessage, NodeMessage, config_stream_client::ConfigStreamClient, node_message::Body,
    },
};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, service::Routes, transport::Endpoint};

use super::Feed;
use crate::{
    domain::{Change, Committed, Expect, Namespace, Op, Upstream},
    identity::Guard,
    listen,
    store::{
        Store,
        tests::samples::{change, commit_change, environment, id, key, restored, scratch},
    },
};

/// The smallest window HTTP/2 begins with.
const WINDOW: u32 = 65_535;

/// A store, and the feed of a control plane on it.
struct World {
    store: Arc<dyn Store>,
    plane: Plane,
    dir: TempDir,
}

/// One control plane's feed and where nodes reach it. Dropped, it stops.
struct Plane {
    feed: Feed,
    stop: CancellationToken,
    address: SocketAddr,
    /// Reads the store.
    reader: JoinHandle<()>,
}

/// The wire of one stream, with no opinion on what is sent.
struct Wire {
    outbound: mpsc::Sender<NodeMessage>,
    inbound: Streaming<ControlMessage>,
}

impl World {
    async fn start() -> Self {
        let (store, dir) = scratch().await;
        let plane = Plane::start(&store).await;
        Self { store, plane, dir }
    }

    /// What a backup of now would bring back, with a control plane on it.
    async fn restored(&self) -> Self {
        let (store, dir) = restored(&self.dir).await;
        let plane = Plane::start(&store).await;
        Self { store, plane, dir }
    }

    /// A control plane that starts now: its memory begins at the heads of today.
    async fn restart(&mut self) {
        self.plane = Plane::start(&self.store).await;
    }

    async fn commit(&self, environment: &str, ops: Vec<Op>) -> Committed {
        let change = Change { environment: id(environment), ..change(ops) };
        commit_change(&self.store, &change).await.expect("commits")
    }

    /// Commits a new key; the revision of `keys` it makes.
    async fn add_key(&self, name: &str) -> u64 {
        let committed = self.commit("default", vec![Op::PutKey(key(name), Expect::Absent)]).await;
        committed.keys_revision.expect("a revision")
    }

    /// Commits a new upstream; the revision of `config` it makes.
    async fn add_upstream(&self, name: &str) -> u64 {
        let committed = self.commit("default", vec![put_upstream(name)]).await;
        committed.config_revision.expect("a revision")
    }

    async fn add_environment(&self, name: &str) {
        self.commit(name, vec![Op::PutEnvironment(environment(name), Expect::Absent)]).await;
    }

    /// Waits until the feed is as far as the store.
    async fn settle(&self) {
        let heads = self.store.heads().await.expect("reads");
        for head in heads {
            while self.plane.feed.shared.head(&head.environment, head.ns) < head.revision
                || self.plane.feed.shared.track(&head.environment, head.ns).is_none()
            {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    }

    /// As if so much had come since that the log reaches back no further.
    async fn forget_log(&self) {
        self.meddle(
            "DELETE FROM config_log WHERE revision + 2 <= (SELECT revision FROM config_heads h \
             WHERE h.environment = config_log.environment AND h.ns = config_log.ns)",
        )
        .await;
    }

    /// Does something to the database that no control plane would.
    async fn meddle(&self, sql: &'static str) {
        let file = format!("sqlite:{}", self.dir.path().join("fastgate.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&file).await.expect("a database");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("writes");
    }

    /// How often it was said that the database went back.
    fn set_backs(&self) -> u64 {
        self.plane.feed.shared.counts.set_backs.get()
    }

    /// Snapshots and deltas sent so far.
    fn sent(&self) -> (u64, u64) {
        let counts = &self.plane.feed.shared.counts;
        (counts.snapshots.get(), counts.deltas.get())
    }
}

impl Plane {
    async fn start(store: &Arc<dyn Store>) -> Self {
        let stop = CancellationToken::new();
        let (feed, reader) = Feed::start(Arc::clone(store), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = Routes::default().add_service(feed.service());
        tokio::spawn(listen::serve(
            listener,
            listen::Transport::Plain,
            Guard(routes),
            stop.clone(),
        ));
        Self { feed, stop, address, reader }
    }

    /// Opens a stream and says nothing. Little can be on its way while nobody reads.
    async fn dial(&self) -> Wire {
        Wire::dial(self.address, WINDOW).await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Wire {
    async fn dial(address: SocketAddr, window: u32) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        let endpoint = endpoint.initial_stream_window_size(window);
        let channel = endpoint.connect().await.expect("connects");
        let (outbound, messages) = mpsc::channel(64);
        let mut client = ConfigStreamClient::new(channel);
        let stream = client.sync(ReceiverStream::new(messages)).await.expect("a stream");
        Self { outbound, inbound: stream.into_inner() }
    }

    async fn say(&self, body: Body) {
        let message = NodeMessage { body: Some(body) };
        self.outbound.send(message).await.expect("the stream is open");
    }
}

fn put_upstream(name: &str) -> Op {
    let targets = vec![v1::Target { url: "http://127.0.0.1:1".into(), ..v1::Target::default() }];
    let wire = v1::Upstream { upstream_id: name.into(), targets, ..v1::Upstream::default() };
    Op::PutUpstream(Box::new(Upstream::parse(wire).expect("an upstream")), Expect::Absent)
}

/// The wire name of each namespace, keys first.
fn namespaces() -> [fastgate::node::v1::Namespace; 2] {
    [Namespace::Keys, Namespace::Config].map(Into::into)
}
