//! One thread that serves requests: it accepts connections on a listener of its own and shares
//! nothing with other workers that it would have to lock.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    runtime::{self, LocalOptions},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Recorder,
    connection::Connection,
    counters::WorkerMetrics,
    falls::Falls,
    limits::Limiter,
    settings::Settings,
    shared::{Brought, Shared},
    snapshot::SnapshotCell,
    watch::Watch,
};

/// How often connections are looked through for idle and slow ones.
const PATROL: Duration = Duration::from_millis(500);
/// How often a worker that drains looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);
/// After accept failed, as it does when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything a worker starts from; made before its thread is.
pub(crate) struct Worker {
    /// A listener on the proxy's port, this worker's alone.
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsPort>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshots: SnapshotCell,
    pub(crate) limiter: Limiter,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Told of what panics.
    pub(crate) falls: Falls,
}

/// A listener on the proxy's port for TLS, this worker's alone.
pub(crate) struct TlsPort {
    pub(crate) listener: TcpListener,
    /// How it is spoken.
    pub(crate) config: Arc<ServerConfig>,
}

impl Worker {
    /// Serves until `stop` is cancelled and the requests under way have ended, or the grace time
    /// has. Blocks its thread.
    ///
    /// # Errors
    /// When the thread's runtime can't be made.
    pub(crate) fn run(self, stop: &CancellationToken) -> io::Result<()> {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(self.serve(stop))
    }

    async fn serve(self, stop: &CancellationToken) -> io::Result<()> {
        let listener = listen(self.listener)?;
        let (tls_listener, tls_config) = self.tls.map(|tls| (tls.listener, tls.config)).unzip();
        let tls_listener = tls_listener.map(listen).transpose()?;
        let brought = Brought {
            settings: self.settings,
            snapshots: self.snapshots.reader(),
            limiter: self.limiter.for_worker(),
            recorder: self.recorder,
            metrics: self.metrics,
            falls: self.falls,
        };
        let shared = Shared::new(brought).map_err(io::Error::other)?;
        let timers = shared.timers.clone();
        tokio::task::spawn_local(async move { timers.run().await });
        tokio::task::spawn_local(shared.limiter.give_back());
        let mut crowd = Crowd { shared, watches: Vec::new() };
        let mut patrol = interval(PATROL);
        patrol.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => crowd.take(accepted, None).await,
                accepted = accept_if(tls_listener.as_ref()) => {
                    crowd.take(accepted, tls_config.clone()).await;
                }
                now = patrol.tick() => crowd.patrol(now),
                () = stop.cancelled() => break,
            }
        }
        drop((listener, tls_listener));
        let shared = crowd.shared.clone();
        crowd.drain().await;
        shared.limiter.leave().await;
        Ok(())
    }
}

fn listen(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

/// Without a listener, waits for ever.
async fn accept_if(listener: Option<&tokio::net::TcpListener>) -> Accepted {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

/// The connections of a worker.
struct Crowd {
    shared: Rc<Shared>,
    /// One for every connection. Its task holds the other reference while it lives.
    watches: Vec<Rc<Watch>>,
}

impl Crowd {
    /// Takes a connection, to speak TLS over it if it is told how.
    async fn take(&mut self, accepted: Accepted, tls: Option<Arc<ServerConfig>>) {
        match accepted {
            Ok((stream, peer)) => self.admit(stream, peer.ip(), tls),
            Err(fault) => {
                tracing::warn!(%fault, "can't accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, tls: Option<Arc<ServerConfig>>) {
        // Fails only when the peer is gone already, which the first read shows.
        drop(stream.set_nodelay(true));
        let watch = Watch::new(Instant::now());
        self.watches.push(watch.clone());
        let metrics = &self.shared.metrics;
        metrics.accepted.add_one();
        let worker = self.shared.clone();
        let fall = self.shared.falls.guard(move || worker.fall());
        let connection = Connection { peer, worker: self.shared.clone(), watch };
        match tls {
            None => drop(tokio::task::spawn_local(async move {
                let _fall = fall;
                connection.serve(stream).await;
            })),
            Some(config) => drop(tokio::task::spawn_local(async move {
                let _fall = fall;
                connection.serve_tls(stream, config).await;
            })),
        }
    }

    fn patrol(&mut self, now: Instant) {
        self.look_through(now);
        self.shared.forwarder.sweep(now);
    }

    async fn drain(mut self) {
        self.watches.iter().for_each(|watch| watch.finish());
        let deadline = Instant::now() + self.shared.settings.grace_time;
        while !self.watches.is_empty() && Instant::now() < deadline {
            sleep(DRAIN_CHECK).await;
            self.look_through(Instant::now());
        }
        if !self.watches.is_empty() {
            let connections = self.watches.len();
            tracing::warn!(connections, "closing connections that outlasted the grace time");
        }
    }

    fn look_through(&mut self, now: Instant) {
        self.watches.iter().for_each(|watch| watch.patrol(now, &self.shared.settings));
        self.watches.retain(|watch| Rc::strong_count(watch) > 1);
        self.shared.metrics.connections.set(self.watches.len() as u64);
    }
}
