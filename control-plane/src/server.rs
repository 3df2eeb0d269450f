//! Puts a control plane together: build binds and connects, run serves until asked to stop.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use fastgate::settings::Mistakes;
use prometheus_client::metrics::counter::Counter;
use prost_reflect::DescriptorPool;
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    access::{self, Access},
    admin::{Admin, Exports},
    audit::{Ingest, StoredUsage, Tails, start_keeper},
    feed::Feed,
    gate::Gate,
    health::{self, Health},
    identity::{Guard, Identities, IdentityError},
    listen::{self, Acceptor, Tls, Transport},
    metrics::{HandshakeCounts, IdentityCounts, Metrics},
    port::AdminPort,
    ready::Readiness,
    rest::Rest,
    rollout,
    settings::Settings,
    store::{self, OpenError, Retention, Store},
    tls::AdminCertificate,
};

/// A control plane whose ports are bound and whose database answers, and which serves nothing yet.
pub struct Server {
    admin: TcpListener,
    admin_transport: Transport,
    node: NodePort,
    addresses: Addresses,
    port: AdminPort,
    store: Arc<dyn Store>,
    health: Health,
    streams: Streams,
}

/// Where nodes call, how, and what.
struct NodePort {
    listener: TcpListener,
    transport: Transport,
    services: Guard,
}

/// What serves streams from the moment the server was built.
struct Streams {
    /// Ends them.
    stop: CancellationToken,
    follower: JoinHandle<()>,
    keeper: JoinHandle<()>,
    mover: JoinHandle<()>,
    /// Hears which nodes are revoked, where nodes show certificates.
    revocations: Option<JoinHandle<()>>,
    /// Looks at the files of the admin port's certificate, where it has one.
    certificate: Option<JoinHandle<()>>,
}

/// Where a control plane listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC, gRPC-Web, REST, `/health` and `/metrics`.
    pub admin: SocketAddr,
    /// The streams of nodes.
    pub node: SocketAddr,
}

/// Why a control plane can't start, in one line.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A port could not be bound.
    #[error(
        "{flag}: can't listen on {address}: {source}: stop what listens there, or choose another"
    )]
    Bind {
        /// The setting the address came from.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate of the admin port or its key can't be used.
    #[error("{0}")]
    Certificate(#[from] Mistakes),
    /// TLS could not be set up.
    #[error("can't speak TLS: {0}: check that the system gives random bytes")]
    Tls(#[from] rustls::Error),
    /// The database can't be used.
    #[error("--database-url: {0}")]
    Database(#[from] OpenError),
    /// Nodes can't be let in.
    #[error("{0}")]
    Identity(String),
    /// The first owner token could not be handed out.
    #[error("{0}")]
    Bootstrap(String),
    /// A bug in the program as it was built.
    #[error("the API compiled into this program is broken: {0}")]
    Api(String),
}

impl Server {
    /// Binds the ports, connects to the database, brings its schema up to date, and hands out
    /// the first owner token where it is asked to.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub async fn build(settings: Settings) -> Result<Self, BuildError> {
        let certificate = settings.admin_tls.clone().map(AdminCertificate::load).transpose()?;
        let acceptor = certificate.as_ref().map(AdminCertificate::acceptor).transpose()?;
        let (admin, admin_addr) = bind("--admin-addr", settings.admin_addr).await?;
        let (node, node_addr) = bind("--node-addr", settings.node_addr).await?;
        let store = store::open(&settings.database_url).await?;
        hand_out_first_owner(&*store, &settings).await?;
        let (handshakes, joining) = (HandshakeCounts::default(), IdentityCounts::default());
        let identities = match &settings.node_ca {
            Some(ca) => {
                let opened = Identities::open(ca, node_addr, &*store, joining.clone()).await;
                Some(opened.map_err(identity)?)
            }
            None => None,
        };

        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET)
            .map_err(|fault| BuildError::Api(fault.to_string()))?;
        let rest = Rest::new(&pool).map_err(BuildError::Api)?;
        let access = Access::new(Arc::clone(&store));
        let stop = CancellationToken::new();
        let (feed, follower) = Feed::start(Arc::clone(&store), stop.clone());
        let ingest = Ingest::new(Arc::clone(&store), stop.clone());
        let tails = Tails::default();
        let retention = Retention {
            events: settings.keep_events,
            rollups: settings.keep_metrics,
            hourly_above: settings.hourly_above,
        };
        let keeper = start_keeper(Arc::clone(&store), retention, stop.clone());
        let mover = rollout::start(Arc::clone(&store), feed.clone(), stop.clone());
        let metrics = Metrics::new(feed.counts(), ingest.counts(), &joining, &handshakes);
        let node_services = Routes::default()
            .add_service(feed.service())
            .add_service(ingest.service())
            .add_service(StoredUsage(Arc::clone(&store)).service())
            .add_service(tails.service(stop.clone()));
        let readiness = Readiness { store: Arc::clone(&store), feed: feed.clone() };
        let failures = handshakes.node();
        let node = NodePort::new(node, node_services, identities.as_ref(), &store, failures);
        let admin_transport = acceptor.map_or(Transport::Plain, |acceptor| {
            let acceptor = Acceptor::Anyone(acceptor);
            Transport::Tls(Tls { acceptor, failures: handshakes.admin() })
        });
        let certificate = certificate.map(|one| tokio::spawn(one.follow(stop.clone())));
        let revocations =
            identities.as_ref().map(|identities| identities.follow(Arc::clone(&store), &stop));
        let services = Admin {
            store: Arc::clone(&store),
            feed,
            access: access.clone(),
            pool: pool.clone(),
            tails,
            exports: Exports::default(),
            started_at: SystemTime::now(),
            node_ca: identities.as_ref().map(Identities::fingerprint),
            stop: stop.clone(),
        };
        let (services, health) = health::add_services(services.routes(), &pool, &stop)
            .await
            .map_err(|fault| BuildError::Api(fault.to_string()))?;
        let gate = Gate { access, metrics: metrics.clone(), services };
        Ok(Self {
            admin,
            admin_transport,
            node,
            addresses: Addresses { admin: admin_addr, node: node_addr },
            port: AdminPort { gate, rest, metrics, readiness, store: Arc::clone(&store) },
            store,
            health,
            streams: Streams { stop, follower, keeper, mover, revocations, certificate },
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop` is cancelled and the answers under way have gone out, within ten seconds.
    pub async fn run(self, stop: CancellationToken) {
        let last_words = async {
            self.health.report(self.store, stop.clone()).await;
            // After that, so that who watches the health hears of the end first.
            self.streams.end().await;
        };
        tokio::join!(
            listen::serve(self.admin, self.admin_transport, self.port, stop.clone()),
            listen::serve(
                self.node.listener,
                self.node.transport,
                self.node.services,
                stop.clone()
            ),
            last_words,
        );
    }
}

impl NodePort {
    fn new(
        listener: TcpListener,
        services: Routes,
        identities: Option<&Identities>,
        store: &Arc<dyn Store>,
        failures: Counter,
    ) -> Self {
        let (transport, services) = match identities {
            None => (Transport::Plain, services),
            Some(identities) => {
                let joining = identities.service(Arc::clone(store));
                let acceptor = Acceptor::Nodes(identities.tls());
                (Transport::Tls(Tls { acceptor, failures }), services.add_service(joining))
            }
        };
        Self { listener, transport, services: Guard(services) }
    }
}

impl Streams {
    async fn end(self) {
        self.stop.cancel();
        let tasks = [
            (self.follower, "follows the database"),
            (self.keeper, "sees to what is kept"),
            (self.mover, "moves rollouts on"),
        ];
        let revocations = self.revocations.map(|task| (task, "hears of revoked nodes"));
        let certificate = self.certificate.map(|task| (task, "looks at the admin certificate"));
        for (task, what) in tasks.into_iter().chain(revocations).chain(certificate) {
            if let Err(fault) = task.await {
                tracing::error!(error = %fault, "the task that {what} died");
            }
        }
    }
}

async fn bind(
    flag: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), BuildError> {
    let fault = |source| BuildError::Bind { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

fn identity(fault: IdentityError) -> BuildError {
    match fault {
        IdentityError::Store(fault) => BuildError::Identity(format!("--database-url: {fault}")),
        fault => BuildError::Identity(fault.to_string()),
    }
}

async fn hand_out_first_owner(store: &dyn Store, settings: &Settings) -> Result<(), BuildError> {
    let fault = |fault: access::BootstrapError| BuildError::Bootstrap(fault.to_string());
    let Some(path) = &settings.bootstrap_token_file else {
        if !access::has_owner(store).await.map_err(fault)? {
            tracing::warn!("nobody can sign in as owner: start once with --bootstrap-token-file");
        }
        return Ok(());
    };
    if access::write_first_owner(store, path).await.map_err(fault)? {
        tracing::info!(file = %path.display(), "the first owner token was written");
    }
    Ok(())
}
