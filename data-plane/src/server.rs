//! Puts a node together: build binds every port, run serves until asked to stop.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use fastgate::settings::Mistakes;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Shipper, SpoolSettings},
    control_planes::ControlPlanes,
    credentials::{self, Enrollment},
    falls::{Fall, Fallen, Falls, falls},
    identity::Identity,
    limits::Limiter,
    metrics::Metrics,
    ops::Ops,
    settings::Settings,
    snapshot::SnapshotCell,
    sync::{Follower, Parts, Recall, StateDir, StateDirError},
    tls::Certificates,
    worker::{TlsPort, Worker},
};

/// Connections the system keeps waiting for each worker to accept them.
const BACKLOG: i32 = 4096;

/// A node whose ports are bound, and which serves nothing yet.
pub struct Server {
    addresses: Addresses,
    ops: TcpListener,
    certificates: Option<Certificates>,
    workers: Vec<Worker>,
    snapshots: SnapshotCell,
    shipper: Shipper,
    limiter: Limiter,
    identity: Arc<Identity>,
    settings: Arc<Settings>,
    control_planes: ControlPlanes,
    /// Where control planes ask for a certificate.
    enrollment: Option<Enrollment>,
    state_dir: Option<Arc<StateDir>>,
    falls: (Falls, Fallen),
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The proxy over TLS.
    pub tls: Option<SocketAddr>,
    /// `/health`, `/ready` and `/metrics`.
    pub ops: SocketAddr,
}

/// Why a node can't start.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A port could not be bound.
    #[error("can't listen on {address}: {source}: {}", mend(.source, .setting))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The setting it came from.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("{0}")]
    Certificate(Mistakes),
    /// TLS could not be set up.
    #[error("can't speak TLS: {0}: check that the system gives random bytes")]
    Tls(#[from] rustls::Error),
    /// The certificates Redis's own must be signed by can't be used.
    #[error("{0}")]
    Redis(Mistakes),
    /// The state directory can't be used.
    #[error("{0}: check --state-dir")]
    StateDir(#[from] StateDirError),
    /// Control planes ask for a certificate, and there is no way to one.
    #[error("{0}")]
    NotJoined(String),
}

/// Why a node stopped before it was asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A thread or a runtime could not be started.
    #[error("can't start the threads of the node: {0}")]
    Thread(#[from] io::Error),
    /// A worker ended by a fault in the program.
    #[error("a worker thread ended unexpectedly: the log says why")]
    WorkerDied,
    /// What follows the config did.
    #[error("the task that follows the config ended unexpectedly: the log says why")]
    FollowerDied,
}

impl Server {
    /// Binds every port.
    ///
    /// # Errors
    /// The first thing that could not be had.
    pub fn build(settings: Settings) -> Result<Self, BuildError> {
        let settings = Arc::new(settings);
        let environment = &settings.environment;
        let identity =
            Arc::new(Identity::of_this_boot(environment.clone(), settings.node_id.clone()));
        let limiter =
            Limiter::new(environment, settings.redis.as_ref()).map_err(BuildError::Redis)?;
        let certificates = settings.tls.clone().map(Certificates::load).transpose();
        let certificates = certificates.map_err(BuildError::Certificate)?;
        let tls_config = certificates.as_ref().map(Certificates::server_config).transpose()?;
        let bind = |address, setting| {
            listeners(address, settings.workers.get()).map_err(|source| BuildError::Bind {
                address,
                setting,
                source,
            })
        };
        let plain = bind(settings.listen, "--listen")?;
        let tls = settings.tls.as_ref();
        let tls = tls.map_or(Ok(Vec::new()), |tls| bind(tls.listen, "--tls-listen"))?;
        let bind_error =
            |source| BuildError::Bind { address: settings.ops_addr, setting: "--ops-addr", source };
        let ops = TcpListener::bind(settings.ops_addr).map_err(bind_error)?;
        let addresses = Addresses {
            proxy: plain.first().map_or(settings.listen, |(_, address)| *address),
            tls: tls.first().map(|(_, address)| *address),
            ops: ops.local_addr().map_err(bind_error)?,
        };
        let state_dir = settings.state_dir.as_deref();
        let state_dir =
            state_dir.map(|dir| StateDir::open(dir, environment.clone())).transpose()?;
        let state_dir = state_dir.map(Arc::new);

        let snapshots = SnapshotCell::default();
        let (control_planes, enrollment) = enroll(&settings, &identity, state_dir.as_deref())?;
        let spool = state_dir.as_ref().map(|dir| SpoolSettings {
            dir: dir.path().join("audit"),
            limit: settings.audit.spool_limit,
            when_full: settings.audit.spool_full,
        });
        let planes = control_planes.clone();
        let mut shipper = Shipper::new(
            identity.clone(),
            planes,
            settings.workers,
            spool,
            settings.audit.onward.clone(),
        );
        let falls = falls();
        let mut tls = tls.into_iter();
        let workers = plain
            .into_iter()
            .map(|(listener, _)| Worker {
                listener,
                tls: tls_port(tls.next(), tls_config.as_ref()),
                settings: settings.clone(),
                snapshots: snapshots.clone(),
                limiter: limiter.clone(),
                recorder: shipper.recorder(settings.audit.queue),
                metrics: Arc::default(),
                falls: falls.0.clone(),
            })
            .collect();
        Ok(Self {
            addresses,
            ops,
            certificates,
            workers,
            snapshots,
            shipper,
            limiter,
            identity,
            settings,
            control_planes,
            enrollment,
            state_dir,
            falls,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where snapshots are put in.
    #[cfg(test)]
    pub(crate) fn snapshots(&self) -> &SnapshotCell {
        &self.snapshots
    }

    /// Where limits are counted.
    #[cfg(test)]
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Takes the events of a server with one worker, in the shipper's place; or none, as if there were
    /// no room for them.
    #[cfg(test)]
    pub(crate) fn tap(&mut self, is_full: bool) -> crate::audit::Tap {
        let ring = if is_full { crate::audit::full_ring } else { crate::audit::ring };
        let (recorder, tap) = ring(1024);
        self.workers.iter_mut().next().expect("a worker").recorder = recorder;
        tap
    }

    /// Serves until `stop` is cancelled and the requests under way have ended. Blocks.
    ///
    /// # Errors
    /// When it can't go on.
    pub fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .enable_all()
            .build()?;
        let _inside = background.enter();
        let (identity, control_planes) = (self.identity.clone(), self.control_planes.clone());
        let recall = Recall::new(identity, control_planes, self.limiter.clone());
        let (falls, fallen) = self.falls;
        // Held until the spool is done as well: another process must not find it in use.
        let _state_dir = self.state_dir.clone();
        let workers: Vec<_> = self.workers.iter().map(|worker| worker.metrics.clone()).collect();
        let follower = Follower::restore(Parts {
            identity: self.identity,
            settings: self.settings,
            control_planes: self.control_planes.clone(),
            cell: self.snapshots.clone(),
            limiter: self.limiter.clone(),
            audit: self.shipper.ledger(),
            workers: workers.clone(),
            fallen,
            state_dir: self.state_dir,
        });
        let metrics = Metrics {
            workers,
            audit: self.shipper.ledger(),
            progress: follower.progress(),
            limiter: self.limiter,
            control_planes: self.control_planes.clone(),
        };
        // Ends what outlives the workers: they still record events while they drain.
        let stop_background = CancellationToken::new();
        background.spawn(Ops::new(metrics, self.snapshots, stop.clone()).serve(self.ops));
        background.spawn(recall.run(stop_background.clone()));
        if let Some(enrollment) = self.enrollment {
            background.spawn(enrollment.run(stop_background.clone()));
        }
        let following = {
            // Without it no change would ever come: better another start, which knows what this one died of.
            let (stop, stop_background) = (stop.clone(), stop_background.clone());
            background.spawn(async move {
                let _guard = stop.drop_guard();
                follower.run(stop_background).await;
            })
        };
        let shipping = background.spawn(self.shipper.run(stop_background.clone()));
        let renewing = self
            .certificates
            .map(|certificates| background.spawn(certificates.follow(stop_background.clone())));

        let served = run_workers(self.workers, &stop, &falls);
        stop_background.cancel();
        // Each ends in bounded time, with what is left saved or shipped, and logs how that went.
        let followed = background.block_on(async {
            let followed = following.await;
            drop(shipping.await);
            if let Some(renewing) = renewing {
                drop(renewing.await);
            }
            followed
        });
        served.and(followed.map_err(|_| RunError::FollowerDied))
    }
}

/// How control planes are reached, and who sees to the certificate that asks for.
fn enroll(
    settings: &Settings,
    identity: &Identity,
    state_dir: Option<&StateDir>,
) -> Result<(ControlPlanes, Option<Enrollment>), BuildError> {
    let uris = settings.control_planes.clone();
    let with_tls: Vec<_> =
        uris.iter().filter(|uri| uri.scheme_str() == Some("https")).cloned().collect();
    let Some(state_dir) = state_dir.filter(|_| !with_tls.is_empty()) else {
        return Ok((uris.into(), None));
    };
    let token_file = settings.join_token_file.clone();
    let dir = (state_dir.path(), state_dir.has_state());
    let opened = credentials::open(identity.name(), with_tls, dir, token_file);
    let (standing, enrollment) =
        opened.map_err(|fault| BuildError::NotJoined(fault.to_string()))?;
    Ok((ControlPlanes::new(uris, Some(standing)), Some(enrollment)))
}

/// Runs every worker on a thread of its own, to the end of all of them.
fn run_workers(
    workers: Vec<Worker>,
    stop: &CancellationToken,
    falls: &Falls,
) -> Result<(), RunError> {
    let mut threads = Vec::with_capacity(workers.len());
    for (number, worker) in workers.into_iter().enumerate() {
        let (stop, fall) = (stop.clone(), falls.guard(|| Fall::Worker));
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // However this one ends, the others must not go on without it.
            let _guards = (fall, stop.clone().drop_guard());
            worker.run(&stop)
        })?;
        threads.push(thread);
    }
    let mut outcome = Ok(());
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => outcome = Err(fault.into()),
            Err(_) => outcome = Err(RunError::WorkerDied),
        }
    }
    outcome
}

/// What a worker needs to speak TLS on its own listener.
fn tls_port(
    listener: Option<(TcpListener, SocketAddr)>,
    config: Option<&Arc<ServerConfig>>,
) -> Option<TlsPort> {
    listener.zip(config).map(|((listener, _), config)| TlsPort { listener, config: config.clone() })
}

/// One listener for each worker, all on one port: the system spreads connections over them.
fn listeners(address: SocketAddr, count: usize) -> io::Result<Vec<(TcpListener, SocketAddr)>> {
    // Shared ports can be shared with another process too, without anyone noticing: make sure
    // that no one has it.
    drop(TcpListener::bind(address)?);
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        // With port 0, the first one picks the port of all.
        address = listener.local_addr()?;
        listeners.push((listener, address));
    }
    Ok(listeners)
}

fn mend(source: &io::Error, setting: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("stop what listens there, or set another {setting}"),
        io::ErrorKind::PermissionDenied => format!("use a port from 1024 on in {setting}"),
        io::ErrorKind::AddrNotAvailable => format!("give an address of this machine in {setting}"),
        _ => format!("check {setting}"),
    }
}
